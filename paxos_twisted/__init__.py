"""Run, watch and break a replicated state machine."""

__version__ = "0.1.0"
