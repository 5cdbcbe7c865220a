"""History files: what is read, what is refused and where, and the recorder."""

import random
from pathlib import Path

import pytest
from histories import run

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, BankOp, BankResult
from paxos_twisted.check.bank import BankModel
from paxos_twisted.check.command import BankHistory
from paxos_twisted.check.history import HistoryError, read_history, write_history

MODEL = BankModel()


def line(kind: str, time: int, seq: int = 1, *, more: str = "", op: str = '{"kind":"balance","account":17}') -> str:
    return f'{{"type":"{kind}","time":{time},"process":0,"client":5,"seq":{seq},"op":{op}{more}}}\n'


ANSWER = ',"result":{"account":17,"balance":0,"error":null,"to_balance":null}'


def read(folder: Path, *texts: str) -> BankHistory:
    paths = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.jsonl"
        path.write_text(text)
        paths.append(path)
    return read_history(paths, MODEL)


class TestReading:
    def test_an_operation_has_a_call_an_end_and_a_result(self, tmp_path: Path) -> None:
        deposit = '{"kind":"deposit","account":17,"amount":100}'
        made = read(
            tmp_path,
            line("invoke", 3, op=deposit) + line("ok", 9, op=deposit, more=',"result":{"account":17,"balance":100}'),
        )
        (operation,) = made.operations
        assert operation.op == BankOp(DEPOSIT, 17, 100)
        assert operation.result == BankResult(17, 100)
        assert (operation.call, operation.end, operation.outcome) == (3, 9, "ok")
        assert (operation.call_line, operation.end_line) == (1, 2)
        assert made.events() == [0, -1]

    def test_fail_and_unknown_keep_the_reason(self, tmp_path: Path) -> None:
        made = read(
            tmp_path,
            line("invoke", 1, 1)
            + line("fail", 2, 1, more=',"reason":"overloaded"')
            + line("invoke", 3, 2)
            + line("unknown", 4, 2, more=',"reason":"timeout"')
            + line("invoke", 5, 3),
        )
        assert [(operation.outcome, operation.reason) for operation in made.operations] == [
            ("fail", "overloaded"),
            ("unknown", "timeout"),
            ("open", ""),
        ]
        assert made.events() == [1, 2]

    def test_a_transfer_names_the_second_account(self, tmp_path: Path) -> None:
        made = read(tmp_path, line("invoke", 1, op='{"kind":"transfer","account":17,"amount":1,"to":18}'))
        assert made.operations[0].op == BankOp(TRANSFER, 17, 1, 18)

    def test_an_operation_that_the_bank_does_not_know_is_a_number(self, tmp_path: Path) -> None:
        made = read(tmp_path, line("invoke", 1, op='{"kind":9,"account":17}'))
        assert made.operations[0].op == BankOp(9, 17)

    def test_empty_lines_do_not_matter(self, tmp_path: Path) -> None:
        assert len(read(tmp_path, "\n" + line("invoke", 1) + "\n").operations) == 1

    def test_the_torn_last_line_of_a_killed_client_is_noted(self, tmp_path: Path) -> None:
        made = read(tmp_path, line("invoke", 1) + line("ok", 2, more=ANSWER)[:40])
        assert made.operations[0].outcome == "open"
        assert made.notes == [f"{tmp_path / '0.jsonl'}:2: the last line is incomplete and was left out"]

    def test_files_of_several_clients_are_one_history(self, tmp_path: Path) -> None:
        first = line("invoke", 1) + line("ok", 5, more=ANSWER)
        second = (line("invoke", 3) + line("ok", 4, more=ANSWER)).replace('"client":5', '"client":6')
        assert read(tmp_path, first, second).events() == [0, 1, -2, -1]

    def test_events_of_two_files_in_the_same_nanosecond_count_as_concurrent(self, tmp_path: Path) -> None:
        first = line("invoke", 1) + line("ok", 5, more=ANSWER)
        second = (line("invoke", 5) + line("ok", 6, more=ANSWER)).replace('"client":5', '"client":6')
        assert read(tmp_path, first, second).events() == [0, 1, -1, -2]

    def test_events_of_one_file_in_the_same_nanosecond_keep_their_order(self, tmp_path: Path) -> None:
        text = line("invoke", 1) + line("ok", 5, more=ANSWER) + line("invoke", 5, 2) + line("ok", 6, 2, more=ANSWER)
        assert read(tmp_path, text).events() == [0, -1, 1, -2]

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        made = run(random.Random(3), operations=200, processes=5, accounts=5, amount_max=9, unknown=0.1, fail=0.1)
        path = tmp_path / "history.jsonl"
        path.write_bytes(b"".join(write_history(made, MODEL)))
        again = read_history([path], MODEL)
        assert again.events() == made.events()
        for operation in again.operations:
            operation.call_line = operation.end_line = 0
        assert again.operations == made.operations


MALFORMED = [
    ("ok before invoke", line("ok", 1, more=ANSWER), "1: request 1 of client 5 ends (ok) but was never invoked"),
    (
        "invoked twice",
        line("invoke", 1) + line("invoke", 2),
        "2: request 1 of client 5 is invoked twice, first in line 1",
    ),
    (
        "ended twice",
        line("invoke", 1) + line("ok", 2, more=ANSWER) + line("unknown", 3),
        "3: request 1 of client 5 ends twice: unknown, after ok in line 2",
    ),
    ("an unknown type", line("maybe", 1), "1: Invalid enum value 'maybe' - at `$.type`"),
    (
        "an unknown kind of operation",
        line("invoke", 1, op='{"kind":"steal","account":17}'),
        "1: unknown kind of operation 'steal'; there are balance, deposit, withdraw, transfer",
    ),
    ("no time", line("invoke", 1).replace('"time":1,', ""), "1: Object missing required field `time`"),
    ("a time that is no integer", line("invoke", 1).replace(":1,", ":1.5,", 1), "1: Expected `int`, got `float`"),
    ("no operation", line("invoke", 1).replace('"op"', '"po"'), '1: an invocation needs an "op"'),
    ("no account", line("invoke", 1, op='{"kind":"balance"}'), "1: Object missing required field `account`"),
    ("no result", line("invoke", 1) + line("ok", 2), '2: an answer (ok) needs a "result"'),
    (
        "a result of another shape",
        line("invoke", 1) + line("ok", 2, more=',"result":{"balance":5}'),
        "2: Object missing required field `account`",
    ),
    (
        "the end of another operation",
        line("invoke", 1) + line("ok", 2, op='{"kind":"balance","account":18}', more=ANSWER),
        "2: request 1 of client 5 ends with another operation than it began with in line 1",
    ),
    (
        "another process",
        line("invoke", 1) + line("ok", 2, more=ANSWER).replace('"process":0', '"process":3'),
        "2: request 1 of client 5 was invoked by process 0, but ends in 3",
    ),
    (
        "an end before the call",
        line("invoke", 7) + line("ok", 2, more=ANSWER),
        "2: request 1 of client 5 ends at 2, before its call at 7",
    ),
    ("no JSON", "what?\n" + line("invoke", 1), "1: JSON is malformed: invalid character (byte 0)"),
    ("half a line in the middle", line("invoke", 1)[:30] + "\n" + line("invoke", 1), "1: "),
    ("bytes that are no text", line("invoke", 1, op='{"kind":"\\ud800","account":1}'), "1: "),
]


class TestMalformedFiles:
    @pytest.mark.parametrize(("text", "want"), [pytest.param(text, want, id=name) for name, text, want in MALFORMED])
    def test_the_error_names_file_and_line(self, tmp_path: Path, text: str, want: str) -> None:
        with pytest.raises(HistoryError) as caught:
            read(tmp_path, text)
        assert str(caught.value).startswith(f"{tmp_path / '0.jsonl'}:{want}")

    def test_a_line_without_end_is_not_read_into_memory(self, tmp_path: Path) -> None:
        with pytest.raises(HistoryError, match="1: the line is longer than 1048576 bytes"):
            read(tmp_path, '{"type":"' + "x" * 3_000_000)

    def test_the_same_request_in_two_files_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(HistoryError, match=r"1\.jsonl:1: .* invoked twice, first in line 1 of another file"):
            read(tmp_path, line("invoke", 1), line("invoke", 1))

    def test_a_request_ends_in_the_file_in_which_it_began(self, tmp_path: Path) -> None:
        with pytest.raises(HistoryError, match="its end must stand in the same file"):
            read(tmp_path, line("invoke", 1), line("ok", 2, more=ANSWER))


class TestRecorder:
    def test_events_at_the_same_time_keep_their_order(self) -> None:
        made = BankHistory()
        made.invoke(0, 5, 1, BankOp(BALANCE, 1), 10)
        made.ok(0, 5, 1, BankResult(1, 0), 10)
        made.invoke(0, 5, 2, BankOp(BALANCE, 1), 10)
        made.fail(0, 5, 2, "overloaded", 10)
        made.invoke(0, 5, 3, BankOp(BALANCE, 1), 10)
        made.unknown(0, 5, 3, "timeout", 10)
        assert made.events() == [0, -1, 2]
        assert [made.count(outcome) for outcome in ("ok", "fail", "unknown", "open")] == [1, 1, 1, 0]

    def test_two_ends_are_an_error(self) -> None:
        made = BankHistory()
        made.invoke(0, 5, 1, BankOp(BALANCE, 1), 10)
        made.unknown(0, 5, 1, "timeout", 11)
        with pytest.raises(HistoryError, match="ends twice: ok, after unknown"):
            made.ok(0, 5, 1, BankResult(1, 0), 12)

    def test_find_gives_the_operation_of_a_request(self) -> None:
        made = BankHistory()
        operation = made.invoke(0, 5, 1, BankOp(BALANCE, 1), 10)
        assert made.find(5, 1) is operation
        assert made.find(5, 2) is None
