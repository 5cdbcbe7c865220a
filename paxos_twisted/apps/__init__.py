"""The applications: deterministic state machines that execute decided commands and know no engine."""
