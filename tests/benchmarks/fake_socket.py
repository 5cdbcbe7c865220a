"""A socket for sessions that are tested without a network."""

import socket

import pytest


class FakeSocket:
    """Keeps what is sent, and gives what the test lets arrive."""

    def __init__(self) -> None:
        self.sent = b""
        self.arriving: list[bytes] = []

    def setsockopt(self, *option: int) -> None:
        """Sockets of sessions have options."""

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, _: int) -> bytes:
        return self.arriving.pop(0) if self.arriving else b""


def plug(monkeypatch: pytest.MonkeyPatch) -> FakeSocket:
    """Let the next sessions dial this socket."""
    fake = FakeSocket()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: fake)
    return fake
