"""Golden bytes: what is on the wire today can be read by what is written tomorrow. [docs/wire.md]

A change here is a change of the protocol: it needs a new PROTOCOL_VERSION.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.bank import TRANSFER, BankOp, BankResult
from paxos_twisted.apps.chat import Message
from paxos_twisted.core.command import NOOP, Command
from paxos_twisted.wire import client, handshake
from paxos_twisted.wire.client import (
    FINAL_REFUSALS,
    Answer,
    Answers,
    Events,
    Follow,
    NoLeader,
    ProtocolError,
    Redirect,
    Refused,
    Reply,
    Unfollow,
    Unknown,
)
from paxos_twisted.wire.handshake import (
    PROTOCOL_VERSION,
    ClientGreeting,
    ClientHello,
    ClientWelcome,
    Hello,
    PeerGreeting,
    PeerHello,
    PeerWelcome,
    Rejected,
)

GOLDEN = [
    pytest.param(
        Command(2**62, 41, 3, 2, BankOp(TRANSFER, 17, 100, 18)),  # type: ignore[arg-type]
        Command[BankOp],
        "96 01 cf4000000000000000 29 03 02 94 03 11 64 12",
        id="Command with a transfer",
    ),
    pytest.param(
        Answer(7, 3, BankResult(17, 100)),  # type: ignore[arg-type]
        Answer[BankResult],
        "94 02 07 03 94 11 64 c0 c0",
        id="Answer with a balance",
    ),
    pytest.param(
        Answers(7, 3, (BankResult(17, 100), BankResult(17, 90))),  # type: ignore[arg-type]
        Answers[BankResult],
        "94 0c 07 03 92 94 11 64 c0 c0 94 11 5a c0 c0",
        id="Answers with two balances",
    ),
    pytest.param(
        Answer(7, 3, BankResult(17, 0, "no")),  # type: ignore[arg-type]
        Answer[BankResult],
        "94 02 07 03 94 11 00 a26e6f c0",
        id="Answer with an error",
    ),
    pytest.param(
        Answer(7, 3, BankResult(17, 0, None, 100)),  # type: ignore[arg-type]
        Answer[BankResult],
        "94 02 07 03 94 11 00 c0 64",
        id="Answer with both balances of a transfer",
    ),
    pytest.param(
        Refused(7, 3, "stale", "t"),  # type: ignore[arg-type]
        Reply,
        "95 03 07 03 a57374616c65 a174",
        id="Refused",
    ),
    pytest.param(
        Redirect(7, 0, 2, "127.0.0.1:7102"),  # type: ignore[arg-type]
        Reply,
        "95 04 07 00 02 ae3132372e302e302e313a37313032",
        id="Redirect",
    ),
    pytest.param(NoLeader(7, 3, 50, "t"), Reply, "95 05 07 03 32 a174", id="NoLeader"),  # type: ignore[arg-type]
    pytest.param(Unknown(7, 3, "t"), Reply, "94 06 07 03 a174", id="Unknown"),  # type: ignore[arg-type]
    pytest.param(ProtocolError("t"), Reply, "92 07 a174", id="ProtocolError"),
    pytest.param(Follow("hall", -10), Follow | Unfollow, "93 08 a468616c6c f6", id="Follow"),
    pytest.param(Unfollow("hall"), Follow | Unfollow, "92 09 a468616c6c", id="Unfollow"),
    pytest.param(
        Events("hall", 17, 3, (Message(bytes(16), 5, "a", "b"),)),
        Events[Message],
        "95 0a a468616c6c 11 03 91 94 c410 00000000000000000000000000000000 05 a161 a162",
        id="Events of a room",
    ),
    pytest.param(
        ClientHello(1, "demo", "bank", 7, "c"),
        Hello,
        "96 64 01 a464656d6f a462616e6b 07 a163",
        id="ClientHello",
    ),
    pytest.param(
        ClientWelcome(1, "demo", 2, 41, 16384),  # type: ignore[arg-type]
        ClientGreeting,
        "96 65 01 a464656d6f 02 29 cd4000",
        id="ClientWelcome",
    ),
    pytest.param(
        PeerHello(1, "demo", 1, 2, "s", "i", 5, "c"),  # type: ignore[arg-type]
        Hello,
        "99 66 01 a464656d6f 01 02 a173 a169 05 a163",
        id="PeerHello",
    ),
    pytest.param(PeerWelcome(1, 2, "i"), PeerGreeting, "94 67 01 02 a169", id="PeerWelcome"),  # type: ignore[arg-type]
    pytest.param(Rejected("full", "t"), ClientGreeting, "93 68 a466756c6c a174", id="Rejected to a client"),
    pytest.param(Rejected("full", "t"), PeerGreeting, "93 68 a466756c6c a174", id="Rejected to a peer"),
]


@pytest.mark.parametrize(("message", "type_", "golden"), GOLDEN)
def test_message_has_these_bytes_and_is_read_from_them(message: Any, type_: Any, golden: str) -> None:
    data = bytes.fromhex(golden)
    assert msgspec.msgpack.encode(message).hex(" ") == data.hex(" ")
    assert msgspec.msgpack.decode(data, type=type_) == message


def test_a_no_op_is_nil() -> None:
    assert NOOP == msgspec.msgpack.encode(None) == b"\xc0"


def test_this_is_protocol_version_1() -> None:
    assert PROTOCOL_VERSION == 1


def structs(module: Any) -> list[type[msgspec.Struct]]:
    """The messages that a module defines."""
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]
    return [message for message in found if message.__module__ == module.__name__]


def test_every_message_has_golden_bytes() -> None:
    shown = {type(parameters.values[0]) for parameters in GOLDEN}
    assert {Command, *structs(client), *structs(handshake)} <= shown


def test_no_two_messages_share_a_tag() -> None:
    messages: list[type[msgspec.Struct]] = [Command, *structs(client), *structs(handshake)]
    assert len({message.__struct_config__.tag for message in messages}) == len(messages)


def test_temporary_refusals_are_not_final() -> None:
    assert FINAL_REFUSALS.isdisjoint({"overloaded", "disk-full"})


TYPES = [Command[BankOp], Reply, Hello, ClientGreeting, PeerGreeting]


@pytest.mark.fuzz
@pytest.mark.parametrize("type_", TYPES, ids=["request", "reply", "hello", "client greeting", "peer greeting"])
@given(
    data=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
            lambda inner: st.lists(inner, max_size=9),
            max_leaves=12,
        ).map(msgspec.msgpack.encode),
    )
)
def test_other_bytes_decode_or_are_refused_and_nothing_else_happens(type_: Any, data: bytes) -> None:
    try:
        message = msgspec.msgpack.decode(data, type=type_)
    except msgspec.DecodeError:
        return
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type_) == message


@pytest.mark.parametrize(
    "field",
    [
        pytest.param({"cluster": "x" * 129}, id="a long cluster name"),
        pytest.param({"credential": "x" * 257}, id="a long credential"),
        pytest.param({"client": -1}, id="a negative client id"),
    ],
)
def test_a_hello_with_such_a_field_is_refused(field: dict[str, Any]) -> None:
    hello = msgspec.structs.replace(ClientHello(1, "demo", "bank", 7), **field)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(hello), type=Hello)
