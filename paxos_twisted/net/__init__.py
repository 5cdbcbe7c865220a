"""The network shell: framed TCP connections, peer links, the client port, and the message-fault layer."""
