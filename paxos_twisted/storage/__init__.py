"""The log of a node: sealed records, what a start-up makes of them, and SQLite beneath. `docs/log-format.md`."""
