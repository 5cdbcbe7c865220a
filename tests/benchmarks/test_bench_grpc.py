"""etcd's bytes: HTTP/2 frames, HPACK, gRPC's prefix and a PutRequest, byte by byte."""

import pytest
from fake_socket import plug

from benchmarks.load import LoadError
from benchmarks.peers.grpc import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LATER_HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    GrpcSession,
    first_headers,
    frame,
    frames,
    opening,
    put_message,
    put_parts,
)

MESSAGES = [put_message(b"k%d" % i, b"value") for i in range(3)]
PUT_RESPONSE = b"\0\0\0\0\2\x0a\0"


def answer(stream: int) -> bytes:
    """Headers, message, trailers; the header blocks are not looked at."""
    return b"".join(
        (
            frame(HEADERS, END_HEADERS, stream, b"\x88"),
            frame(DATA, 0, stream, PUT_RESPONSE),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\xbf"),
        )
    )


def session(monkeypatch: pytest.MonkeyPatch) -> GrpcSession:
    plug(monkeypatch)
    return GrpcSession(("h", 1), 1.0, MESSAGES, 0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(frame(PING, ACK, 0, b"12345678"), "000008 06 01 00000000 3132333435363738", id="a PING's answer"),
        pytest.param(
            opening().removeprefix(PREFACE),
            "000006 04 00 00000000 0004 7fffffff  000004 08 00 00000000 7fff0000",
            id="windows: of each stream 2^31-1; of the connection 65,535 more than what is added, 2^31-1 too",
        ),
        pytest.param(
            first_headers("h:1"),
            "83 86 44 14"
            + b"/etcdserverpb.KV/Put".hex()
            + "41 03 683a31 5f 10"
            + b"application/grpc".hex()
            # te: trailers has no entry in the static table
            + "40 02 7465 08"
            + b"trailers".hex(),
            id="the first headers: POST, http, and four fields to remember",
        ),
        pytest.param(LATER_HEADERS, "83 86 c1 c0 bf be", id="later headers: the oldest of the four is entry 65"),
        pytest.param(
            put_message(b"key", b"val"),
            "00 0000000a 0a 03 6b6579 12 03 76616c",
            id="not compressed, 10 bytes, PutRequest",
        ),
        pytest.param(
            put_message(b"k", bytes(300))[:11], "00 00000132 0a 01 6b 12 ac02", id="300 is two bytes as a varint"
        ),
    ],
)
def test_golden_bytes(data: bytes, expected: str) -> None:
    assert data.hex() == expected.replace(" ", "")


def test_a_call_is_a_headers_frame_and_a_data_frame_of_one_stream() -> None:
    before, between, behind = put_parts(LATER_HEADERS, b"message")
    number = b"\0\0\0\5"
    call = before + number + between + number + behind
    assert call == frame(HEADERS, END_HEADERS, 5, LATER_HEADERS) + frame(DATA, END_STREAM, 5, b"message")


@pytest.mark.parametrize("cut", range(len(frame(DATA, 0, 1, b"abc"))))
def test_an_incomplete_frame_is_none(cut: int) -> None:
    assert list(frames(frame(DATA, 0, 1, b"abc")[:cut])) == []


def test_the_first_request_teaches_the_headers_and_streams_are_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    client = session(monkeypatch)
    data = client.requests(2, 0.0) + client.requests(1, 0.0)
    found = [(kind, flags, stream, data[start:stop]) for kind, flags, stream, start, stop in frames(data)]
    headers = [first_headers("h:1"), LATER_HEADERS, LATER_HEADERS]
    expected = []
    for i, block in enumerate(headers):
        expected.append((HEADERS, END_HEADERS, 2 * i + 1, block))
        expected.append((DATA, END_STREAM, 2 * i + 1, MESSAGES[i]))
    assert found == expected


def test_answers_count_in_any_order_and_in_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    client = session(monkeypatch)
    client.requests(1, 1.0)
    client.requests(2, 2.0)
    stream = answer(5) + answer(1) + answer(3)
    rtts: list[float] = []
    assert sum(client.take(stream[i : i + 7], 4.0, rtts) for i in range(0, len(stream), 7)) == 3
    assert rtts == [2.0, 3.0, 2.0]


def test_pings_and_settings_are_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    client = session(monkeypatch)
    client.take(frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"abcdefgh") + frame(SETTINGS, ACK, 0), 0.0, [])
    assert client.owed == frame(SETTINGS, ACK, 0) + frame(PING, ACK, 0, b"abcdefgh")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88"), id="trailers without a message"),
        pytest.param(frame(RST_STREAM, 0, 1, bytes(4)), id="a reset stream"),
        pytest.param(frame(GOAWAY, 0, 0, bytes(8)), id="a server that goes away"),
    ],
)
def test_what_is_not_done_is_no_answer(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    client = session(monkeypatch)
    client.requests(1, 0.0)
    with pytest.raises(LoadError):
        client.take(data, 0.0, [])


def test_more_than_the_servers_window_is_refused_until_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch)
    client = GrpcSession(("h", 1), 1.0, [put_message(b"k", bytes(4096))], 0)
    client.requests(15, 0.0)
    client.take(frame(WINDOW_UPDATE, 0, 0, (1000).to_bytes(4, "big")), 0.0, [])
    client.requests(1, 0.0)
    with pytest.raises(LoadError, match="flow control"):
        client.requests(1, 0.0)
