"""`python -m benchmarks.execute PROGRAM ARGUMENT…`: become that program.

Started through `paxos_twisted.cluster.child` it dies when its parent does, whatever the program is.
"""

import os
import sys

if __name__ == "__main__":
    os.execvp(sys.argv[1], sys.argv[1:])
