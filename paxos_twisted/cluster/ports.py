"""Ports for nodes on this machine."""

import secrets
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

LOWEST: Final = 10_000
"""Below are the ports of well-known programs."""

EPHEMERAL_DEFAULT: Final = 32_768
"""Where the ports of outgoing connections begin on Linux, unless the administrator moved it."""

ATTEMPTS: Final = 1000


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return ports on which nobody listens now.

    They lie below the ports that the system gives to outgoing connections. From among those a dead node's port could be
    taken by somebody's outgoing connection, and the node could not come back; or a client that dials a dead node could,
    by chance, be connected to itself.

    Raises:
        OSError: there are not that many.
    """
    stop = _ephemeral_start()
    if stop - LOWEST < 1000:
        raise OSError(f"the system gives all ports from {stop} on to outgoing connections: no room for a cluster")
    ports: list[int] = []
    with ExitStack() as held:
        for _ in range(ATTEMPTS):
            if len(ports) == count:
                return ports
            port = LOWEST + secrets.randbelow(stop - LOWEST)
            listener = _bound(host, port)
            if listener is not None:
                held.enter_context(listener)
                ports.append(port)
    raise OSError(f"no {count} free ports on {host}")


def are_free(ports: Sequence[int], host: str = "127.0.0.1") -> bool:
    """Whether nobody listens on any of these ports now."""
    with ExitStack() as held:
        for port in ports:
            listener = _bound(host, port)
            if listener is None:
                return False
            held.enter_context(listener)
    return True


def _bound(host: str, port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1)  # two sockets may share a port with SO_REUSEADDR until one of them listens
    except OSError:
        listener.close()
        return None
    return listener


def _ephemeral_start() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return EPHEMERAL_DEFAULT
