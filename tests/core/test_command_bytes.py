"""Commands and runs of commands as bytes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.bank import DEPOSIT, BankOp
from paxos_twisted.core.command import CLIENT_ID_MAX, NOOP, Command, array_of, cut_run, split_run
from paxos_twisted.types import ClientId

BankCommand = Command[BankOp]

encode = msgspec.msgpack.encode
decode_command = msgspec.msgpack.Decoder(BankCommand).decode

commands = st.one_of(
    st.just(NOOP),
    st.builds(
        BankCommand,
        client=st.integers(0, CLIENT_ID_MAX).map(ClientId),
        birth=st.integers(-1, 2**62),
        seq=st.integers(1, 2**62),
        ack=st.integers(1, 2**62),
        op=st.builds(BankOp, st.integers(0, 3), st.integers(0, 1000), st.integers(0, 10_000), st.integers(0, 1000)),
    ).map(encode),
)


def a_command(seq: int = 1) -> bytes:
    return encode(BankCommand(client=ClientId(7), birth=-1, seq=seq, ack=1, op=BankOp(DEPOSIT, 17, 100)))


@given(st.lists(commands, min_size=1, max_size=40))
def test_a_run_splits_into_the_commands_that_were_joined(parts: list[bytes]) -> None:
    assert split_run(b"".join(parts), len(parts)) == parts


@given(st.lists(commands, min_size=2, max_size=40), st.data())
def test_both_parts_of_a_cut_run_join_to_the_run(parts: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(parts) - 1))
    head, tail = cut_run(b"".join(parts), len(parts), at)
    assert split_run(head, at) == parts[:at]
    assert split_run(tail, len(parts) - at) == parts[at:]


@given(st.lists(commands, min_size=0, max_size=40))
def test_a_run_decodes_in_one_call_with_no_ops_as_none(parts: list[bytes]) -> None:
    decoded = msgspec.msgpack.decode(array_of(b"".join(parts), len(parts)), type=list[BankCommand | None])
    assert [NOOP if command is None else encode(command) for command in decoded] == parts


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param(a_command() + a_command(), 1, id="two commands that are said to be one"),
        pytest.param(a_command() + a_command(), 3, id="fewer commands than said"),
        pytest.param(a_command() + a_command(), 2**32 - 1, id="far fewer commands than said"),
        pytest.param(a_command() + a_command()[:-1], 2, id="the last command is cut short"),
        pytest.param(a_command()[:-1], 1, id="the only command is cut short"),
        pytest.param(a_command() + b"\xc1", 2, id="a byte that msgpack does not know"),
        pytest.param(b"", 1, id="nothing that is said to be a command"),
        pytest.param(a_command(), 0, id="a command in an empty run"),
    ],
)
def test_a_run_that_does_not_hold_exactly_its_count_is_refused(body: bytes, count: int) -> None:
    with pytest.raises(msgspec.DecodeError):
        split_run(body, count)


@pytest.mark.parametrize("at", [0, 2, 3, -1])
def test_a_run_is_cut_only_inside(at: int) -> None:
    with pytest.raises(AssertionError):
        cut_run(a_command() + a_command(), 2, at)


def test_a_command_keeps_all_its_fields() -> None:  # [L5-11]
    command = BankCommand(client=ClientId(CLIENT_ID_MAX), birth=5, seq=9, ack=8, op=BankOp(DEPOSIT, 17, 100))
    assert decode_command(encode(command)) == command


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([1, -1, -1, 1, 1, [1, 17, 100, 0]], id="a negative client id"),
        pytest.param([1, 2**63, -1, 1, 1, [1, 17, 100, 0]], id="a client id of 64 bits"),
        pytest.param([1, 7, -2, 1, 1, [1, 17, 100, 0]], id="a birth before the log"),
        pytest.param([1, 7, -1, 0, 1, [1, 17, 100, 0]], id="seq 0"),
        pytest.param([1, 7, -1, 1, 0, [1, 17, 100, 0]], id="ack 0"),
        pytest.param([2, 7, -1, 1, 1, [1, 17, 100, 0]], id="the tag of another message"),
        pytest.param([1, 7, -1, 1, 1], id="no operation"),
        pytest.param([1, 7, -1, 1, 1, None], id="nil as the operation"),
        pytest.param([1, 7, -1, 1, 1, [1, -1, 100, 0]], id="a negative account"),
        pytest.param([1, 7, -1, 1, 1, [1, 2**53, 100, 0]], id="an account beyond the largest"),
        pytest.param([1, 7, -1, 1, 1, [1, 17, 1.5, 0]], id="a broken amount"),
        pytest.param([1, 7, -1, 1, 1, ["deposit", 17, 100, 0]], id="the name of an operation"),
        pytest.param(None, id="a no-op, which only proposers make [L5-92]"),
    ],
)
def test_the_codec_lets_no_such_command_in(fields: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_command(encode(fields))
