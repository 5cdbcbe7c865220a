"""The command line of `bankclient`: help, versions, and errors, all of them without a cluster."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from paxos_twisted_client.bank import BANK
from paxos_twisted_client.bankclient import cli

from paxos_twisted import __version__

FIELDS = {verb.name: tuple(field.name for field in verb.fields) for verb in BANK.verbs}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAXOS_NODES", "PAXOS_CONFIG", "PAXOS_TIMEOUT", "PAXOS_OUTPUT"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="bankclient")


def test_help_names_every_command_and_the_exit_codes() -> None:
    done = run("--help")
    assert done.exit_code == 0
    for word in (*FIELDS, "--bench", "--history", "--seed", "PAXOS_NODES", "Exit codes:", "NO_COLOR"):
        assert word in done.stdout


@pytest.mark.parametrize("kind", FIELDS)
def test_each_transaction_has_its_help(kind: str) -> None:
    done = run(kind, "--help")
    assert done.exit_code == 0
    assert " ".join(field.upper() for field in FIELDS[kind]) in done.stdout
    assert "Exit codes:" in done.stdout


def test_version() -> None:
    assert run("--version").stdout == f"bankclient, version {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "_BANKCLIENT_COMPLETE" in done.stdout


def test_completion_completes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", "bankclient dep")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("_BANKCLIENT_COMPLETE", "bash_complete")
    assert "deposit" in run().stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(("balance", "17"), "Which cluster? Give --nodes", id="no cluster is named"),
        pytest.param((), "Which cluster? Give --nodes", id="nor for the manual mode"),
        pytest.param(("--bench",), "Which cluster? Give --nodes", id="nor for the bench"),
        pytest.param(("balance", "17", "--nodes", "x"), "--nodes: 'x' is not host:port", id="an address is wrong"),
        pytest.param(
            ("balance", "17", "--config", "no.yml"), "no.yml: No such file or directory", id="there is no such file"
        ),
        pytest.param(("balanse", "17"), "No such command 'balanse'", id="a command is mistyped"),
        pytest.param(("balance",), "Missing argument 'ACCOUNT'", id="no account"),
        pytest.param(("deposit", "17"), "Missing argument 'AMOUNT'", id="no amount"),
        pytest.param(("deposit", "17", "1", "2"), "unexpected extra argument", id="too much"),
        pytest.param(("deposit", "x", "1", "--nodes", "a:1"), "account: 'x' is not a whole number", id="not a number"),
        pytest.param(("balance", "-1", "--nodes", "a:1"), "account: -1 is not an account number", id="a wrong account"),
        pytest.param(("balance", "1", "--timeout", "5"), "'5' is not a duration", id="a duration without a unit"),
        pytest.param(("--bench", "balance", "1"), "--bench and balance exclude each other", id="two things at once"),
        pytest.param(("--bench", "-n", "0"), "0 is not in the range", id="no requests"),
        pytest.param(("--bench", "--rate", "0"), "0.0 is not in the range", id="no rate"),
        pytest.param(("--bench", "--at", "5", "--nodes", "a:1"), "--at and --run belong together", id="half a mark"),
        pytest.param(
            ("--bench", "--nodes", "a:1", "--history", "no/such/folder"),
            "--history: no/such/folder: No such file",
            id="a history that cannot be written",
        ),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], complaint: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert complaint in " ".join(done.stderr.split())


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAXOS_TIMEOUT", "soon")
    done = run("balance", "1", "--nodes", "a:1")
    assert done.exit_code == 2
    assert "PAXOS_TIMEOUT: 'soon' is not a duration" in done.stderr
