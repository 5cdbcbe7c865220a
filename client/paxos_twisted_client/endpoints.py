"""Addresses of nodes as people write them, and the Twisted endpoints that dial them."""

from ipaddress import IPv4Address, ip_address
from typing import Any, NamedTuple

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint

from paxos_twisted_client.limits import ADDRESSES_MAX
from paxos_twisted_client.reactor import Endpoint


class Address(NamedTuple):
    """Where a node listens for clients."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read "host:port", or "[::1]:port".

    Raises:
        ValueError: a sentence that says what is wrong with `text`.
    """
    host, colon, port_text = text.strip().rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not host:port")
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, e.g. [::1]:{port_text}")
    if not host or any(character.isspace() for character in host):
        raise ValueError(f"{text!r} is not host:port")
    return Address(host, int(port_text))


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Read "host:port,host:port,…", without repetitions and in the same order.

    Raises:
        ValueError: a sentence that says what is wrong with `text`.
    """
    addresses = tuple(dict.fromkeys(parse_address(part) for part in text.split(",") if part.strip()))
    if not addresses:
        raise ValueError("no address of a node; write host:port,host:port")
    if len(addresses) > ADDRESSES_MAX:
        raise ValueError(f"{len(addresses)} addresses; {ADDRESSES_MAX} are allowed")
    return addresses


def tcp_endpoint(reactor: Any, address: Address) -> Endpoint:
    """The endpoint that dials `address`. Numeric addresses need no resolver."""
    try:
        number = ip_address(address.host)
    except ValueError:
        return HostnameEndpoint(reactor, address.host.encode("idna"), address.port)
    kind = TCP4ClientEndpoint if isinstance(number, IPv4Address) else TCP6ClientEndpoint
    return kind(reactor, address.host, address.port)
