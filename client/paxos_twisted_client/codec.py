"""Requests to bytes, bytes to replies, with the application's own types."""

from typing import Any

import msgspec

from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.core.command import Command, Series
from paxos_twisted.types import ClientId
from paxos_twisted.wire.client import (
    Answer,
    Answers,
    Events,
    Follow,
    NoLeader,
    ProtocolError,
    Redirect,
    Refused,
    Unfollow,
    Unknown,
)
from paxos_twisted.wire.frames import frame


class Codec:
    """Encodes the commands and decodes the replies of one application."""

    __slots__ = ("_encode", "application", "decode")

    def __init__(self, application: str) -> None:
        """`application` is a name from `paxos_twisted.apps.registry.APPLICATIONS`."""
        known = APPLICATIONS[application]()
        result_type: Any = known.result_type
        reply_type: Any = Answer[result_type] | Refused | Redirect | NoLeader | Unknown | ProtocolError
        if known.takes_series:
            reply_type |= Answers[result_type]
        if known.event_type is not None:
            reply_type |= Events[known.event_type]  # type: ignore[name-defined]
        self.application = application
        self._encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(reply_type).decode
        """Decode one reply. Raises msgspec.DecodeError (also a ValidationError)."""

    def request(self, client: ClientId, birth: int, seq: int, ack: int, op: Any) -> bytes:
        """One request as a frame; a tuple of operations is a series."""
        kind: Any = Series if type(op) is tuple else Command
        return frame(self._encode(kind(client, birth, seq, ack, op)))

    def follow(self, topic: str, start: int) -> bytes:
        """The wish to follow a topic, as a frame."""
        return frame(self._encode(Follow(topic, start)))

    def unfollow(self, topic: str) -> bytes:
        """The wish not to follow it any more."""
        return frame(self._encode(Unfollow(topic)))
