"""`python -m paxos_twisted.cluster.child PARENT MODULE ARGUMENT…`: run a module that dies when its parent does.

The kernel sends SIGKILL when the parent ends, also when the parent was killed itself or when we are frozen. No cluster
of a demo or a test is left behind, whatever happens.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""[prctl(2)]"""


def main() -> None:
    """Tie this process to its parent, then become the module."""
    parent = int(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before we asked
        raise SystemExit(1)
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
