"""Judges a run of failover_test.yml, and writes index.html, report.json and report.md into its folder.

    python tools/crash_report.py reports/20261120T150000Z-virtual

Exit codes: 0 all properties hold, 3 one is violated, 4 a scenario could not be run or judged. What it does stands in
paxos_twisted/report, which needs nothing but the standard library, and matplotlib for plots.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paxos_twisted.report.main import main

if __name__ == "__main__":
    sys.exit(main())
