"""`python -m paxos_twisted.report FOLDER`"""

import sys

from paxos_twisted.report.main import main

if __name__ == "__main__":
    sys.exit(main())
