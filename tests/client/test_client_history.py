"""The history has the documented format, and its lines stand in the order of time."""

import io
import json
from typing import Any

import pytest
from paxos_twisted_client.history import HistoryWriter
from paxos_twisted_client.limits import HISTORY_BUFFER_BYTES
from paxos_twisted_client.pool import Step
from paxos_twisted_client.session import Outcome, Request

from paxos_twisted.apps.bank import DEPOSIT, TRANSFER, BankOp, BankResult
from paxos_twisted.types import ClientId


def request(op: BankOp, outcome: Outcome | None = None, **fields: Any) -> Request:
    made = Request(ClientId(2**62 + 1), 3, op, 100, lambda request: None)
    made.outcome = outcome
    made.finished_ns = 250
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def written(write: Any) -> dict[str, Any]:
    file = io.BytesIO()
    writer = HistoryWriter(file)
    write(writer)
    writer.flush()
    (line,) = file.getvalue().splitlines()
    said: dict[str, Any] = json.loads(line)
    return said


DEPOSITED = {"kind": "deposit", "account": 17, "amount": 100}
WHO = {"process": 2, "client": 2**62 + 1, "seq": 3}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(
            request(BankOp(DEPOSIT, 17, 100)),
            {"type": "invoke", "time": 120, **WHO, "op": DEPOSITED},
            id="a request is about to be sent",
        ),
        pytest.param(
            request(BankOp(DEPOSIT, 17, 100), "ok", result=BankResult(17, 150)),
            {
                "type": "ok",
                "time": 250,
                **WHO,
                "op": DEPOSITED,
                "result": {"account": 17, "balance": 150, "error": None, "to_balance": None},
            },
            id="an answer",
        ),
        pytest.param(
            request(BankOp(TRANSFER, 17, 100, 18), "ok", result=BankResult(17, 50, None, 100)),
            {
                "type": "ok",
                "time": 250,
                **WHO,
                "op": {"kind": "transfer", "account": 17, "amount": 100, "to": 18},
                "result": {"account": 17, "balance": 50, "error": None, "to_balance": 100},
            },
            id="a transfer names the other account",
        ),
        pytest.param(
            request(BankOp(DEPOSIT, 17, 100), "ok", result=BankResult(17, 0, "not enough funds")),
            {
                "type": "ok",
                "time": 250,
                **WHO,
                "op": DEPOSITED,
                "result": {"account": 17, "balance": 0, "error": "not enough funds", "to_balance": None},
            },
            id="a refusal by the bank is an answer",
        ),
        pytest.param(
            request(BankOp(DEPOSIT, 17, 100), "refused", reason="window"),
            {"type": "fail", "time": 250, **WHO, "op": DEPOSITED, "reason": "window"},
            id="certainly not applied",
        ),
        pytest.param(
            request(BankOp(DEPOSIT, 17, 100), "unknown", reason="timeout"),
            {"type": "unknown", "time": 250, **WHO, "op": DEPOSITED, "reason": "timeout"},
            id="may or may not be applied",
        ),
    ],
)
def test_lines(made: Request, expected: dict[str, Any]) -> None:
    if made.outcome is None:
        assert written(lambda writer: writer.invoked(2, made, 120)) == expected
    else:
        assert written(lambda writer: writer.ended(2, made)) == expected


def test_it_is_written_in_large_pieces_and_nothing_is_lost() -> None:
    class Counting(io.BytesIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            return super().write(data)

    file = Counting()
    writer = HistoryWriter(file)
    made = request(BankOp(DEPOSIT, 17, 100))
    count = 3 * HISTORY_BUFFER_BYTES // 100
    for time in range(count):
        writer.invoked(0, made, time)
    writer.flush()
    lines = file.getvalue().splitlines()
    assert [json.loads(line)["time"] for line in lines] == list(range(count))
    assert file.writes <= 5


def test_what_the_client_did_to_find_the_leader_is_recorded() -> None:
    made = request(BankOp(DEPOSIT, 17, 100), "ok", result=BankResult(17, 150), attempts=2, sent_ns=180)
    steps = [Step(110, "left", "10.0.0.1:7101", "closed"), Step(111, "dial", "10.0.0.1:7102"), Step(130, "pause")]
    said = written(lambda writer: writer.ended(2, made, steps))
    assert said["sent"] == 180
    assert said["steps"] == [
        [110, "left", "10.0.0.1:7101", "closed"],
        [111, "dial", "10.0.0.1:7102", ""],
        [130, "pause", "", ""],
    ]


def test_a_request_that_was_never_sent_has_no_time_of_sending() -> None:
    made = request(BankOp(DEPOSIT, 17, 100), "refused", reason="rejected")
    said = written(lambda writer: writer.ended(2, made, [Step(110, "pause")]))
    assert "sent" not in said
    assert len(said["steps"]) == 1


def test_a_request_that_went_through_at_once_has_no_steps() -> None:
    made = request(BankOp(DEPOSIT, 17, 100), "ok", result=BankResult(17, 150), attempts=1, sent_ns=110)
    assert written(lambda writer: writer.ended(2, made, [])).keys().isdisjoint({"steps", "sent"})
