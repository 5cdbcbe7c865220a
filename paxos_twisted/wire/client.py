"""What clients and nodes say to each other, after the handshake. `docs/wire.md` describes it byte by byte.

A request is a `paxos_twisted.core.command.Command` of the cluster's application. Everything else is here.
"""

from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from paxos_twisted.core.command import CLIENT_ID_MAX
from paxos_twisted.limits import FEED_TOPIC_CHARACTERS_MAX
from paxos_twisted.types import ClientId, NodeId

Result = TypeVar("Result")
Event = TypeVar("Event")

Key = Annotated[ClientId, Meta(ge=0, le=CLIENT_ID_MAX)]


class Answer(msgspec.Struct, Generic[Result], array_like=True, tag=2, frozen=True, gc=False):
    """The command was decided and applied; this is its result (also when the result says "not enough funds")."""

    client: Key
    seq: int
    result: Result
    """The application's result, e.g. `paxos_twisted.apps.bank.BankResult`."""


class Answers(msgspec.Struct, Generic[Result], array_like=True, tag=12, frozen=True, gc=False):
    """The same for a series: the result of each of its operations, in their order."""

    client: Key
    seq: int
    result: tuple[Result, ...]


class Refused(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """This request was not applied. `reason` says whether repeating it makes sense."""

    client: Key
    seq: int
    reason: str
    """One word: overloaded, disk-full (repeat later, same seq); expired, stale, window, invalid (final)."""
    text: str
    """The same for people."""


class Redirect(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """Another node leads. Not applied by us; repeat it there with the same seq. seq 0: said on connecting."""

    client: Key
    seq: int
    leader: NodeId
    address: str
    """host:port of that node."""


class NoLeader(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False):
    """No leader is known now (an election runs, or no majority is up). Try again, here or elsewhere, after a while."""

    client: Key
    seq: int
    retry_after_ms: int
    text: str


class Unknown(msgspec.Struct, array_like=True, tag=6, frozen=True, gc=False):
    """The leader was deposed after proposing this request: it may or may not be applied. Repeat it, same seq."""

    client: Key
    seq: int
    text: str


class ProtocolError(msgspec.Struct, array_like=True, tag=7, frozen=True, gc=False):
    """What was wrong with the last frame. The connection is closed behind it."""

    text: str


Reply = Answer[Any] | Answers[Any] | Refused | Redirect | NoLeader | Unknown | ProtocolError

FINAL_REFUSALS = frozenset({"expired", "stale", "window", "invalid"})
"""Reasons of `Refused` for which repeating the request cannot help."""


class Follow(msgspec.Struct, array_like=True, tag=8, frozen=True, gc=False):
    """Tell me the events of a topic from position `start` on, now and as they come; sent by clients.

    It is answered by at least one `Events`, so it also asks whether the node is still there. The topic is followed
    until the connection ends; following it again only moves the position.
    """

    topic: Annotated[str, Meta(max_length=FEED_TOPIC_CHARACTERS_MAX)]
    start: int
    """Negative: counted from the end; -10 are the last ten and what comes behind them."""


class Unfollow(msgspec.Struct, array_like=True, tag=9, frozen=True, gc=False):
    """No more of this topic; sent by clients. Events that are on their way still arrive."""

    topic: Annotated[str, Meta(max_length=FEED_TOPIC_CHARACTERS_MAX)]


class Events(msgspec.Struct, Generic[Event], array_like=True, tag=10, frozen=True):
    """The next events of a topic that is followed over this connection."""

    topic: str
    first: int
    """Position of the first one."""
    kept: int
    """Position of the oldest event that the node still has. Beyond what was to come: what is between is forgotten."""
    events: tuple[Event, ...]
    """Empty when there are none yet behind `first`."""
