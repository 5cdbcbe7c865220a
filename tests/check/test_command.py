"""`check-history` as it is typed: exit codes, tables, JSON."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from histories import Row, history

from paxos_twisted.apps.bank import BALANCE, BankOp, BankResult
from paxos_twisted.check.bank import BankModel
from paxos_twisted.check.command import (
    MODELS,
    BankHistory,
    check_history,
    check_history_command,
    check_recorded,
    model_of,
)
from paxos_twisted.check.history import History, HistoryError, write_history
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.cluster.soaked import SOAKED

GOOD: list[Row] = [("deposit 1 5", "5", 0, 1), ("balance 1", "5", 2, 3), ("deposit 1 1", "unknown", 2, 3)]
BAD: list[Row] = [("deposit 1 5", "5", 0, 1_000_000), ("balance 1", "0", 2_000_000, 3_000_000)]
HARD: list[Row] = [*((f"deposit 1 {3**i}", "open", 0, 0) for i in range(30)), ("balance 1", str(3**25 - 7), 2, 3)]


def save(folder: Path, rows: list[Row], name: str = "history.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join(write_history(history(*rows), BankModel())))
    return path


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(check_history_command, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("rows", "code", "word"),
    [
        pytest.param(GOOD, 0, "ok", id="a linearizable history ends with 0"),
        pytest.param(BAD, 3, "violation", id="a violation ends with 3"),
        pytest.param(HARD, 4, "unknown", id="an exhausted budget ends with 4"),
    ],
)
def test_the_exit_code_says_the_verdict(tmp_path: Path, rows: list[Row], code: int, word: str) -> None:
    path = save(tmp_path, rows)
    result = invoke(path, "--budget", "50000")
    assert result.exit_code == code, result.output
    assert result.stdout.splitlines()[0].split() == ["verdict", word]
    as_json = invoke(path, "--budget", "50000", "--output", "json")
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["verdict"] == word


def test_the_table_counts_and_explains(tmp_path: Path) -> None:
    result = invoke(save(tmp_path, BAD))
    assert result.stdout.splitlines() == [
        "verdict     violation",
        "operations  2",
        "answered    2",
        "failed      0",
        "unknown     0",
        "clients     2",
        "steps       3 (lazy)",
        "",
        "No order of the operations explains this answer:",
        "    balance 1 -> balance 0 [request 1 of client 1, from 2.000 ms to 3.000 ms, lines 3 and 4]",
        "Took effect before it, the last ones:",
        "    deposit 1 5 -> balance 5 [request 1 of client 0, from 0.000 ms to 1.000 ms, lines 1 and 2]",
        "The situation then:",
        "    account 1 holds 5",
        "Nothing else was open that could have changed it.",
        "The rest of the history is not needed to see this.",
    ]


def test_json_names_the_request_and_the_line(tmp_path: Path) -> None:
    report = json.loads(invoke(save(tmp_path, BAD), "--output", "json").stdout)
    assert report["violation"] == {"client": 1, "seq": 1, "keys": [1], "line": 4}
    assert report["operations"] == report["answered"] == 2
    assert report["explanation"][0] == "No order of the operations explains this answer:"


def test_several_files_are_one_history(tmp_path: Path) -> None:
    whole = save(tmp_path, BAD).read_bytes().splitlines(keepends=True)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"".join(whole[:2]))
    second.write_bytes(b"".join(whole[2:]))
    assert invoke(second).exit_code == 0
    result = invoke(second, first)
    assert result.exit_code == 3
    assert f"{second}, lines 1 and 2]" in result.stdout


def test_a_malformed_file_ends_with_2_and_its_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"type":"invoke"}\n')
    result = invoke(path)
    assert result.exit_code == 2
    assert f"{path}:1: Object missing required field `time`" in result.stderr
    assert result.stdout == ""


def test_a_missing_file_ends_with_2(tmp_path: Path) -> None:
    assert invoke(tmp_path / "none").exit_code == 2
    assert invoke().exit_code == 2


def test_a_torn_last_line_is_noted(tmp_path: Path) -> None:
    path = save(tmp_path, GOOD)
    path.write_bytes(path.read_bytes()[:-20])
    result = invoke(path)
    assert result.exit_code == 0
    assert "note        " in result.stdout


def test_a_cluster_that_was_used_before(tmp_path: Path) -> None:
    path = save(tmp_path, [("balance 1", "5", 0, 1)])
    assert invoke(path).exit_code == 3
    assert invoke(path, "--start", "any").exit_code == 0


def test_an_answer_that_fits_no_request_is_a_finding() -> None:
    made = BankHistory()
    made.invoke(0, 5, 1, BankOp(BALANCE, 1), 0)
    made.ok(0, 5, 1, BankResult(2, 0), 1)
    verdict = check_recorded(BankModel(), made)
    assert verdict.outcome is Outcome.VIOLATION
    assert "account 2: that is the answer to another request" in verdict.findings[0]


def test_check_history_is_the_same_for_programs(tmp_path: Path) -> None:
    assert check_history([save(tmp_path, GOOD)], "bank", 1000).outcome is Outcome.OK
    with pytest.raises(HistoryError, match="there is no model 'shop'; there are auction, bank"):
        check_history([], "shop", 1000)


@pytest.mark.parametrize(
    ("op", "name"),
    [
        ('{"kind":"deposit","account":1,"amount":5}', "bank"),
        ('{"kind":"balance","account":1}', "bank"),
        ('{"kind":"put","key":"a","value":"1"}', "kv"),
        ('{"kind":"get","key":"a"}', "kv"),
        ('{"kind":"list"}', "kv"),
        ('{"kind":"nonsense"}', "bank"),
        ("", "bank"),
    ],
)
def test_a_history_says_itself_which_application_it_is_of(tmp_path: Path, op: str, name: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(f'{{"type":"invoke","time":1,"process":0,"client":5,"seq":1,"op":{op}}}\n')
    assert model_of([path]) == name


def test_histories_of_chats_and_auctions_are_known_by_their_first_operation(tmp_path: Path) -> None:
    for name in ("chat", "auction"):
        soaked = SOAKED[name](3)
        for op in soaked.readings():
            path = tmp_path / f"{name}.jsonl"
            made: History[object, object] = History()
            made.invoke(0, 5, 1, op, 1)
            path.write_bytes(b"".join(write_history(made, MODELS[name](True))))
            assert model_of([path]) == name
