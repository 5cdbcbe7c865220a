"""What people type at `kvclient`, what it says, and what it says when that is wrong. Without a cluster."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from paxos_twisted_client.client_side import FormError
from paxos_twisted_client.form import Form
from paxos_twisted_client.kvclient import KV, cli

from paxos_twisted.apps.kv import (
    CompareAndSet,
    Delete,
    Deleted,
    Denied,
    Different,
    Done,
    Get,
    KvOp,
    KvResult,
    List,
    Page,
    Put,
    Value,
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAXOS_NODES", "PAXOS_CONFIG", "PAXOS_TIMEOUT", "PAXOS_OUTPUT"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="kvclient")


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("get a", Get("a")),
        ("g a", Get("a")),
        ("put a 1", Put("a", b"1")),
        ("put 'a b' \"two words\"", Put("a b", b"two words")),
        ("create a 1", CompareAndSet("a", None, b"1")),
        ("cas a 1 ''", CompareAndSet("a", b"1", b"")),
        ("delete a", Delete("a")),
        ("list", List()),
        ("list user/", List("user/")),
        ("list user/ user/7 10", List("user/", "user/7", 10)),
        ("put k caf\u00e9", Put("k", "caf\u00e9".encode())),
        ("put k \udcff", Put("k", b"\xff")),
    ],
)
def test_operations(line: str, op: KvOp) -> None:
    form = Form.from_words(KV, KV.split(line))
    assert form.missing() is None
    assert form.op() == op


@pytest.mark.parametrize(
    ("line", "answers", "op"),
    [
        ("", [("kind", "put"), ("key", "a b"), ("value", " 1 ")], Put("a b", b" 1 ")),
        ("cas a", [("expected", "1"), ("value", "2")], CompareAndSet("a", b"1", b"2")),
        ("", [("kind", "list")], List()),
    ],
)
def test_what_is_left_out_is_asked_for(line: str, answers: list[tuple[str, str]], op: KvOp) -> None:
    form = Form.from_words(KV, KV.split(line))
    for field, text in answers:
        assert form.missing() == field
        form.fill(field, text)
    assert form.missing() is None
    assert form.op() == op


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("putt a 1", "unknown command 'putt'; did you mean put"),
        ("c a 1", "unknown command 'c'"),
        ("put a 1 2", "too many words; write put KEY VALUE"),
        ("list a b 1 2", r"too many words; write list \[PREFIX\] \[AFTER\] \[LIMIT\]"),
        ("list a b x", "limit: 'x' is not a number from 1 to 1000"),
        ("list a b 1001", "limit: '1001' is not a number"),
        ("put 'a", "a quote is not closed"),
        ("get \udcff", "key: keys are text in UTF-8"),
    ],
)
def test_wrong_operations(line: str, complaint: str) -> None:
    with pytest.raises(FormError, match=complaint):
        Form.from_words(KV, KV.split(line))


@pytest.mark.parametrize(
    ("op", "result", "said", "did"),
    [
        (Get("a"), Value(b"1"), "1", True),
        (Get("a"), Value(b"\x00"), "\\x00", True),
        (Get("a"), Value(None), "a does not exist", False),
        (Put("a", b""), Done(), "done", True),
        (Delete("a"), Deleted(True), "deleted", True),
        (Delete("a"), Deleted(False), "did not exist", True),
        (CompareAndSet("a", None, b""), Different(True), "not done: a exists", False),
        (CompareAndSet("a", b"1", b""), Different(True), "not done: a holds another value", False),
        (CompareAndSet("a", b"1", b""), Different(False), "not done: a does not exist", False),
        (Get(""), Denied("an empty key"), "refused: an empty key", False),
        (List(), Page((("a", b"1"), ("b", b"2")), False), "a\t1\nb\t2", True),
        (List(), Page((), False), "no such keys", True),
    ],
)
def test_answers_in_words(op: KvOp, result: KvResult, said: str, did: bool) -> None:
    assert KV.say(op, result) == said
    assert KV.did(op, result) is did


def test_a_list_says_how_it_goes_on() -> None:
    page = Page((("user 7", b""),), True)
    assert KV.note(List("user"), page) == "there are more: list user 'user 7'"
    assert KV.note(List("user", limit=5), page) == "there are more: list user 'user 7' 5"
    assert KV.note(List(), Page((), False)) == ""


def test_pipes_get_values_to_the_byte() -> None:
    assert KV.raw(Get("a"), Value(b"\xff\n")) == b"\xff\n"
    assert KV.raw(List(), Page((("a", b"1"),), False)) == b"a\t1\n"
    assert KV.raw(Put("a", b""), Done()) is None


def test_help() -> None:
    said = run("--help").stdout
    for word in (
        "put",
        "cas",
        "list",
        "--target",
        "--conflicts",
        "--distribution",
        "--mix",
        "1    refused: by the store",
    ):
        assert word in said
    assert "list [OPTIONS] [PREFIX] [AFTER] [LIMIT]" in run("list", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--reads", "50", "--mix", "get=100"), "--reads and --mix exclude each other"),
        (("--mix", "get=50"), "adds up to 50 %, not to 100 %"),
        (("--mix", "get=50,steal=50"), "'steal=50' is not one of get, put"),
        (("--mix", "get=50,get=50"), "each once"),
        (("--mix", "get"), "'get' is not one of"),
        (("--mix", "get=nan"), "'get=nan' is not one of"),
        (("--skew", "1"), "--skew belongs to --distribution zipf"),
        (("--conflicts", "2", "--distribution", "zipf"), "--conflicts and --distribution exclude each other"),
        (("--value-size", "65537"), "65537 is not in the range"),
        (("--keys", "0"), "0 is not in the range"),
        (("--target", "farthest"), "'farthest' is not one of"),
    ],
)
def test_wrong_benches(arguments: tuple[str, ...], complaint: str) -> None:
    done = run("--bench", "--nodes", "a:1", *arguments)
    assert done.exit_code == 2
    assert complaint in " ".join(done.stderr.split())


def test_a_value_may_come_through_a_pipe_but_no_key() -> None:
    done = CliRunner().invoke(cli, ["put"], input="value")
    assert done.exit_code == 2
    assert "Missing argument 'KEY'" in done.stderr


READ, WRITE = {"mix": {"get": 90.0, "put": 10.0}}, {"mix": {"put": 100.0}}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (READ | {"distribution": "uniform"}, "get 90 %, put 10 %, 5 keys, uniform, 3 bytes"),
        (WRITE | {"distribution": "zipf", "skew": 0.99}, "put 100 %, 5 keys, zipf 0.99, 3 bytes"),
        (WRITE | {"conflicts": 2.0}, "put 100 %, 5 keys, conflicts 2 %, 3 bytes"),
    ],
)
def test_the_title_of_the_report_says_the_workload(options: dict[str, Any], said: str) -> None:
    assert KV.say_workload(options | {"keys": 5, "value_size": 3}) == said
