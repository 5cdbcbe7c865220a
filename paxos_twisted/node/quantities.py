"""What people write in configuration files and on command lines: durations with a unit, host:port addresses."""

import ipaddress
import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, NamedTuple, NewType

Duration = NewType("Duration", int)
"""Whole milliseconds, written with a unit: 800ms, 2s, 1.5s, 1m."""

DURATION_MS_MAX: Final = 3_600_000
"""An hour: longer ones are mistakes in this system."""

_DURATION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))?[ ]?(ms|s|m)")
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000}
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class Address(NamedTuple):
    """Where a port listens."""

    host: str
    """A name or an IP address (IPv6 without brackets)."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it means "every address of this machine": good to listen on, no place to connect to."""
        return self.host in ("0.0.0.0", "::")

    @property
    def place(self) -> tuple[str, int]:
        """Equal for two spellings of one place."""
        host = "127.0.0.1" if self.host.lower() == "localhost" else self.host.lower()
        return (host, self.port)


def shown(value: object) -> str:
    """A value as a message quotes it: on one line, in double quotes when it is text, not too long."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`; did you mean "x"?` when one of `words` is close to `word`, otherwise nothing."""
    close = get_close_matches(word[:100], list(words), n=1, cutoff=0.6)
    return f"; did you mean {shown(close[0])}?" if close else ""


def parse_duration(value: object) -> Duration:
    """Read a duration.

    Raises:
        ValueError: with the sentence for people.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f'"{value}" has no unit; write {value}ms, {value}s or {value}m')
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is not a duration; write a number and a unit, e.g. 250ms, 2s, 1m")
    whole, fraction, unit = match.groups()
    thousandths = (int(whole) * 1000 + int((fraction or "").ljust(3, "0"))) * _UNIT_MS[unit]
    if thousandths % 1000:
        raise ValueError(f"{shown(value)} is not a whole number of milliseconds")
    if thousandths > DURATION_MS_MAX * 1000:
        raise ValueError(f"{shown(value)} is too long; the most is {format_duration(Duration(DURATION_MS_MAX))}")
    return Duration(thousandths // 1000)


def format_duration(duration: Duration) -> str:
    """The shortest way to write a duration that `parse_duration` reads back."""
    for unit in ("m", "s"):
        if duration and duration % _UNIT_MS[unit] == 0:
            return f"{duration // _UNIT_MS[unit]}{unit}"
    return f"{duration}ms"


def parse_address(value: object) -> Address:
    """Read host:port; an IPv6 address stands in brackets.

    Raises:
        ValueError: with the sentence for people.
    """
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not an address; write host:port")
    if value.startswith("["):
        host, bracket, port = value[1:].rpartition("]")
        if not bracket or not _is_ip(host, 6):
            raise ValueError(f"{shown(value)} is not an IPv6 address in brackets; write [address]:port")
        port = port.removeprefix(":") if port.startswith(":") else ""
    else:
        host, _, port = value.rpartition(":") if ":" in value else (value, "", "")
        if ":" in host:
            raise ValueError(f"{shown(value)} has several colons; write host:port, or [address]:port for IPv6")
    if not port:
        raise ValueError(f"{shown(value)} has no port; write host:port")
    if not host:
        raise ValueError(f"{shown(value)} has no host; write host:port")
    if not _is_host(host) and not _is_ip(host, 6):
        raise ValueError(f"{shown(value)}: {shown(host)} is neither a host name nor an IP address")
    if not re.fullmatch("[0-9]{1,9}", port):
        raise ValueError(f"{shown(value)}: {shown(port)} is not a port number")
    if not 1 <= int(port) <= 65_535:
        raise ValueError(f"{shown(value)}: port {int(port)} is not in 1..65535")
    return Address(host, int(port))


def _is_host(host: str) -> bool:
    if re.fullmatch(r"[0-9.]+", host):  # digits and dots are an IPv4 address or nothing
        return _is_ip(host, 4)
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split("."))


def _is_ip(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version and "%" not in host
    except ValueError:
        return False
