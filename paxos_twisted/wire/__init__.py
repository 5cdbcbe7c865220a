"""The wire: frames, the handshake, and the messages between clients and nodes."""
