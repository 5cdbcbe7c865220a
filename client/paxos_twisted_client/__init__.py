"""The client library and the programs people type. Knows the wire and nothing of the engines."""
