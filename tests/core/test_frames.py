"""Frames on a byte stream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.wire.frames import HEADER_BYTES, FrameError, FrameReader, frame

payloads = st.lists(st.binary(min_size=1, max_size=300), max_size=20)


def read(reader: FrameReader, *chunks: bytes) -> list[bytes]:
    return [payload for chunk in chunks for payload in reader.feed(chunk)]


@given(payloads, st.data())
def test_a_stream_cut_anywhere_gives_the_same_frames(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, payloads))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    chunks = [stream[start:stop] for start, stop in pairwise([0, *cuts, len(stream)])]
    assert read(FrameReader(300), *chunks) == payloads


@given(payloads)
def test_a_stream_byte_by_byte_gives_the_same_frames(payloads: list[bytes]) -> None:
    stream = b"".join(map(frame, payloads))
    assert read(FrameReader(300), *(stream[at : at + 1] for at in range(len(stream)))) == payloads


def test_the_length_comes_first_in_four_bytes_big_endian() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"
    assert HEADER_BYTES == 4


def test_a_frame_of_exactly_the_limit_is_read() -> None:
    assert read(FrameReader(10), frame(b"x" * 10)) == [b"x" * 10]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\x00\x00\x00\x00", id="an empty frame"),
        pytest.param(b"\x00\x00\x00\x0b", id="one byte more than the limit"),
        pytest.param(b"\xff\xff\xff\xff", id="four gigabytes"),
        pytest.param(b"GET ", id="a browser"),
    ],
)
@pytest.mark.parametrize("chunks", [1, 4], ids=["header in one chunk", "header byte by byte"])
def test_a_bad_length_is_refused_before_the_frame_arrives(header: bytes, chunks: int) -> None:
    reader = FrameReader(10)
    step = len(header) // chunks
    *first, last = (header[at : at + step] for at in range(0, len(header), step))
    assert read(reader, *first) == []
    with pytest.raises(FrameError):
        read(reader, last)


def test_frames_before_a_bad_one_are_delivered_first() -> None:
    frames = FrameReader(10).feed(frame(b"good") + b"\x00\x00\x00\x00")
    assert next(frames) == b"good"
    with pytest.raises(FrameError):
        next(frames)


@pytest.mark.fuzz
@given(st.lists(st.binary(max_size=40), max_size=30))
def test_bytes_of_any_kind_give_frames_or_a_frame_error(chunks: list[bytes]) -> None:
    reader = FrameReader(20)
    try:
        payloads = read(reader, *chunks)
    except FrameError:
        return
    assert all(0 < len(payload) <= 20 for payload in payloads)


def test_empty_chunks_change_nothing() -> None:
    assert read(FrameReader(10), b"", b"\x00\x00\x00", b"", b"\x01", b"", b"x", b"") == [b"x"]
