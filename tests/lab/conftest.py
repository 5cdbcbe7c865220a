"""Lets the tests of the lab import what lies in the folder ansible."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ansible"))
