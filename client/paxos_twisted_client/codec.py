"""Requests to bytes, bytes to replies, with the application's own types."""

from typing import Any

import msgspec

from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.core.command import Command
from paxos_twisted.types import ClientId
from paxos_twisted.wire.client import Answer, NoLeader, ProtocolError, Redirect, Refused, Unknown
from paxos_twisted.wire.frames import frame


class Codec:
    """Encodes the commands and decodes the replies of one application."""

    __slots__ = ("_encode", "application", "decode")

    def __init__(self, application: str) -> None:
        """`application` is a name from `paxos_twisted.apps.registry.APPLICATIONS`."""
        result_type: Any = APPLICATIONS[application]().result_type
        self.application = application
        self._encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(
            Answer[result_type] | Refused | Redirect | NoLeader | Unknown | ProtocolError
        ).decode
        """Decode one reply. Raises msgspec.DecodeError (also a ValidationError)."""

    def request(self, client: ClientId, birth: int, seq: int, ack: int, op: Any) -> bytes:
        """One request as a frame."""
        return frame(self._encode(Command(client, birth, seq, ack, op)))
