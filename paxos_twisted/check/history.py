"""A history: what clients asked, what they were told, and when. Recorded in memory, or read from JSON lines.

One line an event, as `docs/history.md` describes it:

    {"type": "invoke", "time": 17, "process": 0, "client": 5, "seq": 1, "op": {"kind": "deposit", …}}
    {"type": "ok", "time": 21, "process": 0, "client": 5, "seq": 1, "op": {…}, "result": {…}}

An operation has three ends: *ok* (answered), *fail* (certainly not applied) and *unknown* (may be applied, now, later
or never). One that was invoked and never ended, because its client died, is unknown too.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Generic, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from paxos_twisted.check.model import Language, Op, Result

LINE_BYTES_MAX = 1024 * 1024
"""A longer line is no event of ours: a command has at most COMMAND_BYTES_MAX bytes."""

OPERATIONS_MAX = 5_000_000
"""About a kilobyte each: more do not fit the memory of a small machine."""

Kind = Literal["invoke", "ok", "fail", "unknown"]
Outcome = Literal["open", "ok", "fail", "unknown"]


class HistoryError(Exception):
    """The history contradicts itself or cannot be read; the text says where."""


class Operation(msgspec.Struct, Generic[Op, Result], gc=False):
    """One request of one client, from its first sending to its end."""

    process: int
    client: int
    seq: int
    op: Op
    call: int
    """Time of the invocation, nanoseconds of a clock that all processes share."""
    outcome: Outcome = "open"
    end: int | None = None
    """Time of the answer; None while there is none. The end of an unknown operation is not a bound for its effect."""
    result: Result | None = None
    """Only when the outcome is ok."""
    reason: str = ""
    """Why it failed or is unknown, in the client's words."""
    source: int = 0
    """Number of the file that it came from."""
    call_line: int = 0
    """Line of the invocation; 0 in a history recorded in memory."""
    end_line: int = 0


class History(Generic[Op, Result]):
    """The recorder, and what it has recorded.

    Events come in the order in which they happened: where two have the same time, this order decides. `operations` is
    in the order of invocation within each file.
    """

    def __init__(self) -> None:
        self.operations: list[Operation[Op, Result]] = []
        self.sources: list[str] = []
        """Names of the files read."""
        self.notes: list[str] = []
        """What was strange but harmless, one sentence each."""
        self._index: dict[tuple[int, int], int] = {}
        self._marks: list[tuple[int, int, int]] = []
        """(time, source, i) for the call of operation i, (time, source, ~i) for its end."""

    def invoke(
        self, process: int, client: int, seq: int, op: Op, time: int, *, source: int = 0, line: int = 0
    ) -> Operation[Op, Result]:
        """Request `seq` of `client` is about to be sent for the first time.

        Raises:
            HistoryError: that request was invoked before (a repetition of a request is not a new invocation).
        """
        before = self._index.get((client, seq))
        if before is not None:
            raise HistoryError(
                f"request {seq} of client {client} is invoked twice{_first_seen(self.operations[before], source)}"
            )
        if len(self.operations) >= OPERATIONS_MAX:
            raise HistoryError(f"more than {OPERATIONS_MAX} operations; check a part of this history")
        operation: Operation[Op, Result] = Operation(process, client, seq, op, time, source=source, call_line=line)
        index = len(self.operations)
        self._index[client, seq] = index
        self._marks.append((time, source, index))
        self.operations.append(operation)
        return operation

    def ok(self, process: int, client: int, seq: int, result: Result, time: int, *, line: int = 0) -> None:
        """The request was answered with `result`.

        Raises:
            HistoryError: it was never invoked, by another process, later, or has ended already. So do all three.
        """
        self._end(process, client, seq, "ok", time, line).result = result

    def fail(self, process: int, client: int, seq: int, reason: str, time: int, *, line: int = 0) -> None:
        """The request was certainly not applied, and will not be."""
        self._end(process, client, seq, "fail", time, line).reason = reason

    def unknown(self, process: int, client: int, seq: int, reason: str, time: int, *, line: int = 0) -> None:
        """The client gave up: the request may have been applied, may still be, or never."""
        self._end(process, client, seq, "unknown", time, line).reason = reason

    def find(self, client: int, seq: int) -> Operation[Op, Result] | None:
        """The operation of that request, None if it was never invoked."""
        index = self._index.get((client, seq))
        return None if index is None else self.operations[index]

    def events(self) -> list[int]:
        """Calls and answers in the order of time: i is the call of operation i, ~i its answer.

        Failed operations do not occur, unknown ones have no answer. Events of different files at the same nanosecond
        happened in an order that nobody knows: all their calls come first, so that they count as concurrent.
        """
        operations = self.operations
        ordered: list[int] = []
        ties: list[tuple[int, int, int]] = []
        for mark in [*sorted(self._marks, key=_time_of), (-1, 0, 0)]:  # the last one closes the last group
            if ties and mark[0] != ties[0][0]:
                if len(ties) > 1 and len({source for _, source, _ in ties}) > 1:
                    ties.sort(key=_is_end)
                ordered.extend(event for _, _, event in ties)
                ties.clear()
            ties.append(mark)
        return [
            event
            for event in ordered
            if (operations[event].outcome != "fail" if event >= 0 else operations[~event].outcome == "ok")
        ]

    def count(self, outcome: Outcome) -> int:
        """Number of operations that ended like this."""
        return sum(operation.outcome == outcome for operation in self.operations)

    def _end(
        self, process: int, client: int, seq: int, outcome: Outcome, time: int, line: int
    ) -> Operation[Op, Result]:
        index = self._index.get((client, seq))
        if index is None:
            raise HistoryError(f"request {seq} of client {client} ends ({outcome}) but was never invoked")
        operation = self.operations[index]
        if operation.outcome != "open":
            where = f" in line {operation.end_line}" if operation.end_line else ""
            raise HistoryError(
                f"request {seq} of client {client} ends twice: {outcome}, after {operation.outcome}{where}"
            )
        if operation.process != process:
            raise HistoryError(
                f"request {seq} of client {client} was invoked by process {operation.process}, but ends in {process}"
            )
        if time < operation.call:
            raise HistoryError(f"request {seq} of client {client} ends at {time}, before its call at {operation.call}")
        operation.outcome = outcome
        operation.end = time
        operation.end_line = line
        self._marks.append((time, operation.source, ~index))
        return operation


class _Line(msgspec.Struct):
    type: Kind
    time: Annotated[int, Meta(ge=0)]
    process: int
    client: Annotated[int, Meta(ge=0)]
    seq: Annotated[int, Meta(ge=1)]
    op: msgspec.Raw | UnsetType = UNSET
    result: msgspec.Raw | UnsetType = UNSET
    reason: str = ""


_decode = msgspec.json.Decoder(_Line).decode


def read_history(paths: Sequence[Path | str], language: Language[Op, Result]) -> History[Op, Result]:
    """Read one history from files that clients on one host wrote (one clock), line by line.

    A last line without an end that cannot be read is what a killed client leaves behind: it is noted and left out.

    Raises:
        HistoryError: a line is malformed or contradicts an earlier one; the text starts with file:line.
        OSError: a file cannot be read.
    """
    history: History[Op, Result] = History()
    for source, path in enumerate(paths):
        history.sources.append(str(path))
        with Path(path).open("rb") as file:
            _read_file(file, history, language, source)
    return history


def write_history(history: History[Op, Result], language: Language[Op, Result]) -> Iterator[bytes]:
    """Yield the history as lines (with their ends) that `read_history` reads back, in the order of the events."""
    encode = msgspec.json.encode
    for time, _, event in sorted(history._marks, key=_time_of):
        operation = history.operations[event if event >= 0 else ~event]
        line: dict[str, object] = {
            "type": "invoke" if event >= 0 else operation.outcome,
            "time": time,
            "process": operation.process,
            "client": operation.client,
            "seq": operation.seq,
            "op": language.write_op(operation.op),
        }
        if event < 0:
            if operation.result is not None:
                line["result"] = language.write_result(operation.result)
            else:
                line["reason"] = operation.reason
        yield encode(line) + b"\n"


def _read_file(file: BinaryIO, history: History[Op, Result], language: Language[Op, Result], source: int) -> None:
    name = history.sources[source]
    for number, raw in enumerate(_lines(file), 1):
        try:
            if len(raw) > LINE_BYTES_MAX:
                raise HistoryError(f"the line is longer than {LINE_BYTES_MAX} bytes")
            if raw.isspace():
                continue
            try:
                _read_line(_decode(raw), history, language, source, number)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if not raw.endswith(b"\n") and not isinstance(error, msgspec.ValidationError):
                    history.notes.append(f"{name}:{number}: the last line is incomplete and was left out")
                    continue
                raise HistoryError(str(error)) from error
        except HistoryError as error:
            raise HistoryError(f"{name}:{number}: {error}") from error


def _lines(file: BinaryIO) -> Iterable[bytes]:
    return iter(lambda: file.readline(LINE_BYTES_MAX + 1), b"")


def _read_line(
    line: _Line, history: History[Op, Result], language: Language[Op, Result], source: int, number: int
) -> None:
    process, client, seq, time = line.process, line.client, line.seq, line.time
    if line.type == "invoke":
        if line.op is UNSET:
            raise HistoryError('an invocation needs an "op"')
        history.invoke(process, client, seq, language.read_op(bytes(line.op)), time, source=source, line=number)
        return
    operation = history.find(client, seq)
    if operation is not None:
        if operation.source != source:
            raise HistoryError(
                f"request {seq} of client {client} was invoked in {history.sources[operation.source]}:"
                f"{operation.call_line}; its end must stand in the same file"
            )
        if line.op is not UNSET and language.read_op(bytes(line.op)) != operation.op:
            raise HistoryError(
                f"request {seq} of client {client} ends with another operation than it began with in line "
                f"{operation.call_line}"
            )
    if line.type == "ok":
        if line.result is UNSET:
            raise HistoryError('an answer (ok) needs a "result"')
        history.ok(process, client, seq, language.read_result(bytes(line.result)), time, line=number)
    elif line.type == "fail":
        history.fail(process, client, seq, line.reason, time, line=number)
    else:
        history.unknown(process, client, seq, line.reason, time, line=number)


def _first_seen(operation: Operation[Op, Result], source: int) -> str:
    if not operation.call_line:
        return ""
    where = "" if operation.source == source else "of another file"
    return f", first in line {operation.call_line} {where}".rstrip()


def _time_of(mark: tuple[int, int, int]) -> int:
    return mark[0]


def _is_end(mark: tuple[int, int, int]) -> bool:
    return mark[2] < 0
