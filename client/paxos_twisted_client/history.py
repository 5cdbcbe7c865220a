"""What the clients asked and were told, one JSON object a line, for the linearizability check. See docs/history.md."""

from collections.abc import Iterator, Sequence
from typing import IO, Any

import msgspec

from paxos_twisted.limits import SERIES_MAX
from paxos_twisted_client.bank import BANK
from paxos_twisted_client.client_side import ClientSide
from paxos_twisted_client.limits import HISTORY_BUFFER_BYTES
from paxos_twisted_client.pool import Step
from paxos_twisted_client.session import OK, REFUSED, Request

_encode = msgspec.json.Encoder().encode


class InvokeLine(msgspec.Struct, tag_field="type", tag="invoke", gc=False):
    """A client is about to send a request."""

    time: int
    process: int
    client: int
    seq: int
    op: Any


class OkLine(msgspec.Struct, tag_field="type", tag="ok", gc=False, omit_defaults=True):
    """A request was answered."""

    time: int
    process: int
    client: int
    seq: int
    op: Any
    result: Any
    sent: int | None = None
    steps: Sequence[Step] = ()


class EndLine(msgspec.Struct, tag_field="type", tag="fail", gc=False, omit_defaults=True):
    """A request was certainly not applied."""

    time: int
    process: int
    client: int
    seq: int
    op: Any
    reason: str
    sent: int | None = None
    steps: Sequence[Step] = ()


class UnknownLine(EndLine, tag_field="type", tag="unknown", gc=False, omit_defaults=True):
    """A request may or may not have been applied, or be applied later."""


def _parts(request: Request) -> Iterator[tuple[int, Any, Any]]:
    """(seq, operation, result or None) of a request, or of each part of a series: those have numbers of their own."""
    if type(request.op) is not tuple:
        yield request.seq, request.op, request.result
        return
    results = request.result if request.outcome == OK else [None] * len(request.op)
    first = (request.seq - 1) * SERIES_MAX + 1
    for number, (op, result) in enumerate(zip(request.op, results, strict=True)):
        yield first + number, op, result


class HistoryWriter:
    """Writes a history in pieces. Lines stand in the order of the calls, so times never go back."""

    def __init__(self, file: IO[bytes], side: ClientSide = BANK) -> None:
        self._file = file
        self._op = side.op_json
        self._result = side.result_json
        self._lines: list[bytes] = []
        self._held = 0

    def invoked(self, process: int, request: Request, now_ns: int) -> None:
        """Call it before the request can have been sent."""
        for seq, op, _ in _parts(request):
            self._write(InvokeLine(now_ns, process, request.client, seq, self._op(op)))

    def ended(self, process: int, request: Request, steps: Sequence[Step] = ()) -> None:
        """Call it once the request has ended. `steps`: what its client has done meanwhile to find the leader."""
        steps = tuple(steps)  # left out when empty
        sent = request.sent_ns if request.attempts and (steps or request.attempts > 1) else None
        time_ns, client = request.finished_ns, request.client
        line = EndLine if request.outcome == REFUSED else UnknownLine
        for seq, op, result in _parts(request):
            if request.outcome == OK:
                self._write(OkLine(time_ns, process, client, seq, self._op(op), self._result(op, result), sent, steps))
            else:
                self._write(line(time_ns, process, client, seq, self._op(op), request.reason, sent, steps))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if self._lines:
            self._file.write(b"".join(self._lines))
            self._lines.clear()
            self._held = 0
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._file.close()

    def _write(self, line: msgspec.Struct) -> None:
        text = _encode(line) + b"\n"
        self._lines.append(text)
        self._held += len(text)
        if self._held >= HISTORY_BUFFER_BYTES:
            self.flush()
