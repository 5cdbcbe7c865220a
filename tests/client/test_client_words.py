"""What people type: addresses, cluster files, transactions, durations; and what they are told when it is wrong."""

from pathlib import Path

import click
import pytest
from paxos_twisted_client.bank import BANK
from paxos_twisted_client.client_side import FormError
from paxos_twisted_client.cluster_file import ClusterFileError, Target, read_cluster_file
from paxos_twisted_client.endpoints import Address, parse_address, parse_addresses
from paxos_twisted_client.form import Form
from paxos_twisted_client.settings import DurationType, Settings

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, WITHDRAW, BankOp


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7101", Address("127.0.0.1", 7101)),
        (" node-a.example:65535 ", Address("node-a.example", 65535)),
        ("[::1]:7101", Address("::1", 7101)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text.strip()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not host:port"),
        ("7101", "is not host:port"),
        (":7101", "is not host:port"),
        ("[]:7101", "is not host:port"),
        ("a b:7101", "is not host:port"),
        ("host:", "the port must be a number from 1 to 65535"),
        ("host:0", "the port must be a number from 1 to 65535"),
        ("host:65536", "the port must be a number from 1 to 65535"),
        ("host:-1", "the port must be a number from 1 to 65535"),
        ("host:\u0661", "the port must be a number from 1 to 65535"),
        ("::1:7101", "write an IPv6 address in brackets"),
    ],
)
def test_wrong_addresses(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_address(text)


def test_address_lists_keep_their_order_without_repetitions() -> None:
    assert parse_addresses("b:2,a:1,,b:2") == (Address("b", 2), Address("a", 1))
    with pytest.raises(ValueError, match="no address"):
        parse_addresses(" , ")
    with pytest.raises(ValueError, match="allowed"):
        parse_addresses(",".join(f"a:{port}" for port in range(1, 100)))


FILE = """
cluster: demo
engine: multipaxos
application: bank
nodes:
  - {id: 1, address: 127.0.0.1:7101, http: 127.0.0.1:7201, data_dir: data/1}
  - {id: 2, address: 127.0.0.1:7102}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yml"
    path.write_text(FILE)
    return path


def test_cluster_file(file: Path) -> None:
    assert read_cluster_file(file) == Target("demo", "bank", (Address("127.0.0.1", 7101), Address("127.0.0.1", 7102)))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        pytest.param(FILE, "", "expected a mapping", id="an empty file"),
        pytest.param(FILE, "a: b: c", "not YAML", id="not YAML"),
        pytest.param("cluster: demo\n", "", "cluster: expected a name, found None", id="no name"),
        pytest.param("demo", "3", "cluster: expected a name, found 3", id="a name that is a number"),
        pytest.param(
            "bank", "casino", "application: expected one of .*bank.*, found 'casino'", id="a strange application"
        ),
        pytest.param("nodes:", "knots:", "nodes: expected a list", id="no nodes"),
        pytest.param(
            "address: 127.0.0.1:7102", "port: 7102", r"nodes\[1\].address: expected host:port", id="no address"
        ),
        pytest.param("7102}", "7102x}", r"nodes\[1\].address: .*the port must be", id="a wrong address"),
        pytest.param("{id: 2, address: 127.0.0.1:7102}", "two", r"nodes\[1\].address", id="a node that is a word"),
    ],
)
def test_wrong_cluster_files(file: Path, old: str, new: str, complaint: str) -> None:
    file.write_text(FILE.replace(old, new))
    with pytest.raises(ClusterFileError, match=complaint) as raised:
        read_cluster_file(file)
    assert str(raised.value).startswith(str(file))


def test_a_missing_cluster_file(tmp_path: Path) -> None:
    with pytest.raises(ClusterFileError, match="No such file"):
        read_cluster_file(tmp_path / "none.yml")


@pytest.mark.parametrize(
    ("words", "op"),
    [
        ("balance 17", BankOp(BALANCE, 17)),
        ("deposit 17 100", BankOp(DEPOSIT, 17, 100)),
        ("d 17 10_000", BankOp(DEPOSIT, 17, 10_000)),
        ("WITHDRAW 17 50", BankOp(WITHDRAW, 17, 50)),
        ("withdraw 17 -50", BankOp(WITHDRAW, 17, -50)),
        ("transfer 17 18 20", BankOp(TRANSFER, 17, 20, 18)),
    ],
)
def test_complete_transactions(words: str, op: BankOp) -> None:
    form = Form.from_words(BANK, words.split())
    assert form.missing() is None
    assert form.op() == op


@pytest.mark.parametrize(
    ("words", "answers", "op"),
    [
        pytest.param(
            "",
            [("account", "17"), ("kind", "deposit"), ("amount", "100")],
            BankOp(DEPOSIT, 17, 100),
            id="nothing: account, transaction type, amount are asked for, as in the lab",
        ),
        pytest.param("17", [("kind", "b")], BankOp(BALANCE, 17), id="an account: what to do with it"),
        pytest.param("deposit", [("account", "17"), ("amount", "5")], BankOp(DEPOSIT, 17, 5), id="a transaction"),
        pytest.param("deposit 17", [("amount", "5")], BankOp(DEPOSIT, 17, 5), id="no amount"),
        pytest.param("t 17", [("to", "18"), ("amount", "5")], BankOp(TRANSFER, 17, 5, 18), id="a transfer to whom?"),
    ],
)
def test_what_is_left_out_is_asked_for(words: str, answers: list[tuple[str, str]], op: BankOp) -> None:
    form = Form.from_words(BANK, words.split())
    for field, text in answers:
        assert form.missing() == field
        form.fill(field, text)
    assert form.missing() is None
    assert form.op() == op


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("depsoit 17 100", "unknown command 'depsoit'; did you mean deposit"),
        ("steal 17 100", "unknown command 'steal'; there are balance, deposit"),
        ("hlep", "unknown command 'hlep'; did you mean help"),
        ("17 100", "start with the transaction, e.g. deposit 17 100"),
        ("balance 17 100", "too many words; write balance ACCOUNT"),
        ("transfer 1 2 3 4", "too many words; write transfer ACCOUNT TO AMOUNT"),
        ("deposit x 100", "account: 'x' is not a whole number"),
        ("deposit 17 1.5", "amount: '1.5' is not a whole number"),
        ("deposit -1 5", "account: -1 is not an account number"),
        ("deposit 9007199254740992 5", "is not an account number"),
        ("deposit 1 9223372036854775808", "is larger than any bank can hold"),
    ],
)
def test_wrong_transactions(words: str, complaint: str) -> None:
    with pytest.raises(FormError, match=complaint):
        Form.from_words(BANK, words.split())


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("1s", 1.0), ("1.5s", 1.5), ("2m", 120.0)])
def test_durations(text: str, seconds: float) -> None:
    assert DurationType().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "0s", "1 h", "1e3s"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration"):
        DurationType().convert(text, None, None)


A, B = (Address("a", 1),), (Address("b", 1),)


@pytest.mark.parametrize(
    ("given", "environment", "addresses"),
    [
        pytest.param({"nodes": "a:1"}, {"PAXOS_NODES": "b:1"}, A, id="the command line wins over the environment"),
        pytest.param({"nodes": "a:1", "config": "none.yml"}, {}, A, id="--nodes wins over --config"),
        pytest.param({"nodes": "a:1"}, {"PAXOS_CONFIG": "none.yml"}, A, id="--nodes wins over PAXOS_CONFIG"),
        pytest.param({}, {"PAXOS_NODES": "b:1"}, B, id="PAXOS_NODES"),
    ],
)
def test_where_the_nodes_come_from(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: dict[str, str],
    environment: dict[str, str],
    addresses: tuple[Address, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAXOS_NODES", "PAXOS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    settings.take(given)
    assert settings.target("bank") == Target("demo", "bank", addresses)


def test_the_cluster_file_of_the_current_folder_is_found(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    for name in ("PAXOS_NODES", "PAXOS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(file.parent)
    assert len(Settings().target("bank").addresses) == 2
    with pytest.raises(click.UsageError, match="runs bank; use bankclient"):
        Settings().target("kv")
