"""ZooKeeper's bytes, as its protocol has them."""

import struct

import pytest
from fake_socket import plug

from benchmarks.load import LoadError
from benchmarks.peers.jute import (
    JuteSession,
    close_request,
    connect_request,
    create_request,
    replies,
    set_data_parts,
)

STAT = bytes(68)


def reply(xid: int, error: int = 0, body: bytes = STAT) -> bytes:
    """A packet of the server: length, xid, zxid, error, record."""
    rest = struct.pack(">iqi", xid, 5, error) + body
    return struct.pack(">i", len(rest)) + rest


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        pytest.param(
            connect_request(),
            "0000002d 00000000 0000000000000000 00007530 0000000000000000 00000010" + "00" * 16 + "00",
            id="a new session of 30 s: version 0, nothing seen, no id, an empty password, not read-only",
        ),
        pytest.param(
            b"\0\0\0\7".join(set_data_parts("/k1", b"ab")),
            "00000019 00000007 00000005 00000003 2f6b31 00000002 6162 ffffffff",
            id="setData: xid 7, opcode 5, path, value, any version",
        ),
        pytest.param(
            create_request(3, "/a", b"x"),
            "00000032 00000003 00000001 00000002 2f61 00000001 78"
            " 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000",
            id="create: xid 3, opcode 1, path, value, world:anyone may do everything, persistent",
        ),
        pytest.param(close_request(9), "00000008 00000009 fffffff5", id="closeSession: xid 9, opcode -11"),
    ],
)
def test_golden_bytes(packet: bytes, expected: str) -> None:
    assert packet.hex() == expected.replace(" ", "")


@pytest.mark.parametrize("cut", range(len(reply(1))))
def test_an_incomplete_reply_is_none(cut: int) -> None:
    assert list(replies(reply(1)[:cut])) == []


def test_replies_are_told_apart() -> None:
    data = reply(1) + reply(2, -101, b"") + reply(3)[:10]
    assert list(replies(data)) == [(1, 0, 88), (2, -101, 108)]


def test_a_session_counts_answers_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch)
    session = JuteSession(("", 0), 1.0, [set_data_parts("/k", b"v")], 0)
    session.requests(2, now=10.0)
    session.requests(1, now=11.0)
    rtts: list[float] = []
    stream = b"".join(map(reply, (1, 2, 3)))
    counts = [session.take(stream[i : i + 50], 12.0, rtts) for i in range(0, len(stream), 50)]
    assert sum(counts) == 3
    assert rtts == [2.0, 2.0, 1.0]


def test_a_session_goes_round_its_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch)
    writes = [set_data_parts(f"/{i}", b"") for i in range(3)]
    session = JuteSession(("", 0), 1.0, writes, first=1)
    expected = [b"\0\0\0\2".join(writes[2]), b"\0\0\0\3".join(writes[0]), b"\0\0\0\4".join(writes[1])]
    assert session.requests(3, now=0.0) == b"".join(expected)


def test_an_error_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch)
    session = JuteSession(("", 0), 1.0, [set_data_parts("/k", b"v")], 0)
    session.requests(1, now=0.0)
    with pytest.raises(LoadError, match="error -101"):
        session.take(reply(1, -101, b""), 1.0, [])


@pytest.mark.parametrize(
    ("answer", "is_session"),
    [
        pytest.param(struct.pack(">iiiqi", 36, 0, 30000, 1, 16) + bytes(16) + b"\0", True, id="a session is given"),
        pytest.param(struct.pack(">iiiqi", 36, 0, 0, 0, 16) + bytes(16) + b"\0", False, id="timeout 0 is a refusal"),
        pytest.param(b"", False, id="a server without a quorum hangs up"),
    ],
)
def test_greeting(monkeypatch: pytest.MonkeyPatch, answer: bytes, is_session: bool) -> None:
    fake = plug(monkeypatch)
    session = JuteSession(("", 0), 1.0, [], 0)
    assert fake.sent == connect_request()
    fake.arriving = [answer[:7], answer[7:]] if answer else []
    if is_session:
        session.greet()
    else:
        with pytest.raises(LoadError):
            session.greet()


def test_nodes_are_made_unless_they_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = plug(monkeypatch)
    session = JuteSession(("", 0), 1.0, [], 0)
    fake.arriving = [reply(0)[:30], reply(0)[30:] + reply(1, -110, b"")]
    session.create(["/a", "/b"], b"")
    assert fake.sent == connect_request() + create_request(0, "/a", b"") + create_request(1, "/b", b"")
