"""What the clients asked and were told, one JSON object a line, for the linearizability check. See docs/history.md."""

from typing import IO

import msgspec

from paxos_twisted.apps.bank import KIND_NAMES, TRANSFER, BankOp, BankResult
from paxos_twisted_client.limits import HISTORY_BUFFER_BYTES
from paxos_twisted_client.session import OK, REFUSED, Request

_encode = msgspec.json.Encoder().encode


class OpLine(msgspec.Struct, omit_defaults=True, gc=False):
    """A transaction in a history."""

    kind: str
    account: int
    amount: int
    to: int | None = None


class ResultLine(msgspec.Struct, gc=False):
    """What the bank said."""

    account: int
    balance: int
    error: str | None
    to_balance: int | None


class InvokeLine(msgspec.Struct, tag_field="type", tag="invoke", gc=False):
    """A client is about to send a request."""

    time: int
    process: int
    client: int
    seq: int
    op: OpLine


class OkLine(msgspec.Struct, tag_field="type", tag="ok", gc=False):
    """A request was answered."""

    time: int
    process: int
    client: int
    seq: int
    op: OpLine
    result: ResultLine


class EndLine(msgspec.Struct, tag_field="type", tag="fail", gc=False):
    """A request was certainly not applied."""

    time: int
    process: int
    client: int
    seq: int
    op: OpLine
    reason: str


class UnknownLine(EndLine, tag_field="type", tag="unknown", gc=False):
    """A request may or may not have been applied, or be applied later."""


class HistoryWriter:
    """Writes a history in pieces. Lines stand in the order of the calls, so times never go back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lines: list[bytes] = []
        self._held = 0

    def invoked(self, process: int, request: Request, now_ns: int) -> None:
        """Call it before the request can have been sent."""
        self._write(InvokeLine(now_ns, process, request.client, request.seq, _op(request.op)))

    def ended(self, process: int, request: Request) -> None:
        """Call it once the request has ended."""
        time_ns, client, seq, op = request.finished_ns, request.client, request.seq, _op(request.op)
        if request.outcome == OK:
            result: BankResult = request.result
            said = ResultLine(result.account, result.balance, result.error, result.to_balance)
            self._write(OkLine(time_ns, process, client, seq, op, said))
            return
        line = EndLine if request.outcome == REFUSED else UnknownLine
        self._write(line(time_ns, process, client, seq, op, request.reason))

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


def _op(op: BankOp) -> OpLine:
    kind = KIND_NAMES[op.kind] if 0 <= op.kind < len(KIND_NAMES) else "unknown"
    return OpLine(kind, op.account, op.amount, op.to if op.kind == TRANSFER else None)
