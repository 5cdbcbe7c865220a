"""The command line: what is wrong is said before the reactor runs."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError

from paxos_twisted import __version__
from paxos_twisted.node import options as options_module
from paxos_twisted.node.config import load, make_config
from paxos_twisted.node.options import Options, log_observer
from paxos_twisted.node.quantities import Address


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a cluster.yml of three nodes; node 2 has run before."""
    (tmp_path / "cluster.yml").write_text(make_config(1))
    (tmp_path / "data/2").mkdir(parents=True)
    (tmp_path / "data/2/node.db").write_text("")
    (tmp_path / "bad.yml").write_text("cluster: demo\napplication: bnk\nalpha: 0\nnodes: []\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Options, "environ", {})
    monkeypatch.setattr(options_module, "_log_choice", {"node": None})
    yield tmp_path


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


NODE = ("--config", "cluster.yml", "--node-id")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param([], "which configuration? Say --config FILE, or set PAXOS_CONFIG", id="no configuration"),
        pytest.param(["-c", "cluster.yml"], "which node? Say --node-id N, or set PAXOS_NODE_ID", id="no node"),
        pytest.param([*NODE, "one"], '--node-id: "one" is not a number', id="a node id that is no number"),
        pytest.param([*NODE, "-1"], '--node-id: "-1" is not a number', id="a negative node id"),
        pytest.param([*NODE, "2", "--listen", "7101"], '--listen: "7101" has no port; write host:port', id="listen"),
        pytest.param([*NODE, "2", "--http", "h:0"], '--http: "h:0": port 0 is not in 1..65535', id="http"),
        pytest.param(
            [*NODE, "2", "--log-level", "loud"],
            '--log-level: "loud" is none of debug, info, warn, error, critical',
            id="log level",
        ),
        pytest.param(
            ["--config", "cluster.yml", "--check", "--http", "h:1"],
            "--http belongs to one node: say --node-id N too",
            id="a node's option without a node",
        ),
        pytest.param([*NODE, "2", "now"], "Wrong number of arguments.", id="an argument too many"),
        pytest.param(["--colour"], "option --colour not recognized", id="an unknown option"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_command_line_is_a_usage_error(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*arguments)
    assert str(caught.value) == said


FIRST = "paxosnode --config cluster.yml --node-id"

BAD = """\
bad.yml:2: application: "bnk" is not known; did you mean "bank"?
bad.yml:3: alpha: 0 is not in 1..65536
bad.yml:4: nodes: there are no nodes; write 1, 3, 5, 7 or 9 of them (2F+1 nodes survive F failures)
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param([*NODE, "4"], "cluster.yml: nodes: there is no node 4; the file has 1, 2, 3\n", id="no such node"),
        pytest.param(["-c", "no.yml", "-i", "1"], "no.yml: cannot be read: No such file or directory\n", id="no file"),
        pytest.param(["-c", "bad.yml", "-i", "1"], BAD, id="three problems at a start"),
        pytest.param(["-c", "bad.yml", "--check"], BAD, id="three problems at a check"),
        pytest.param(
            [*NODE, "1", "--data-dir", "no/where"],
            "cluster.yml: data_dir of node 1 (nodes[0]): the directory %s/no does not exist; type: mkdir -p %s/no\n",
            id="no directory for the data",
        ),
        pytest.param(
            [*NODE, "1"],
            "cluster.yml: node 1 has no data in %s/data/1. If it has never run before, type: " + FIRST + " 1 "
            "--first-start\n"
            "If it has run before, its disk is lost and with it what it has promised: do not start it so.\n",
            id="a start on an empty directory",
        ),
        pytest.param(
            [*NODE, "2", "--first-start"],
            "cluster.yml: --first-start, but node 2 has data in %s/data/2 (node.db). To go on with it, type: "
            + FIRST + " 2\n",
            id="a first start on a full directory",
        ),
    ],
)  # fmt: skip
def test_unusable_configuration_is_told_on_stderr_and_exits_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", said.replace("%s", str(folder)))


def test_options_of_one_node_arrive(folder: Path) -> None:
    options = parsed(*NODE, "2", "--listen", "0.0.0.0:1", "--http", "127.0.0.1:2", "--data-dir", "data/2")
    assert options.node_id == 2
    node = options.config.node(2)
    assert (node.listen, node.http, node.data_dir) == (
        Address("0.0.0.0", 1),
        Address("127.0.0.1", 2),
        folder / "data/2",
    )
    assert options.config.shared == load("cluster.yml").shared


@pytest.mark.usefixtures("folder")
def test_environment_stands_in_for_options_and_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Options, "environ", {"PAXOS_CONFIG": "cluster.yml", "PAXOS_NODE_ID": "2"})
    assert parsed().node_id == 2
    assert parsed("--node-id", "1", "--first-start").node_id == 1


@pytest.mark.usefixtures("folder")
def test_first_start_is_for_a_directory_that_is_missing_or_empty() -> None:
    Path("data/3").mkdir()
    assert parsed(*NODE, "1", "--first-start")["first-start"]
    assert parsed(*NODE, "3", "--first-start")["first-start"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("node", [[], ["--node-id", "1"]], ids=["the file", "one node"])
def test_check_prints_the_effective_configuration(capsys: pytest.CaptureFixture[str], node: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--config", "cluster.yml", "--check", *node)
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert out == load("cluster.yml").effective(1 if node else None)
    assert err == ""


@pytest.mark.usefixtures("folder")
def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"paxosnode {__version__}\n"
    text = str(Options())
    assert all(f"--{option[0]}" in text for option in (*Options.optParameters, *Options.optFlags))


@pytest.mark.usefixtures("folder")
def test_our_observer_writes_the_log_unless_twistd_was_told_otherwise() -> None:
    class Twistd(dict[str, object]):
        subCommand = "paxosnode"

    def chosen(*arguments: str, **twistd: object) -> object:
        options = Options()
        parent = Twistd(twistd)
        options.parent = parent  # type: ignore[assignment]
        options.parseOptions([*NODE, "2", *arguments])
        return parent.get("logger")

    ours = "paxos_twisted.node.options.log_observer"
    assert chosen(nodaemon=1) == ours
    assert chosen(nodaemon=0) is None
    assert chosen(nodaemon=1, logfile="x") is None
    assert chosen(nodaemon=1, logger="other") == "other"
    with pytest.raises(UsageError, match="--json-log does not go together"):
        chosen("--json-log", nodaemon=1, logfile="x")


@pytest.mark.usefixtures("folder")
def test_observer_is_the_chosen_one() -> None:
    parsed(*NODE, "2", "--log-level", "warn", "--json-log")
    observer = log_observer()
    assert observer.lowest == 2  # type: ignore[attr-defined]
    assert observer.observer.node == 2  # type: ignore[attr-defined]


def test_twistd_finds_the_plugin() -> None:
    (maker,) = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "paxosnode"]
    assert maker.options is Options
    assert maker.makeService is options_module.makeService


# As processes

NODE_COMMAND = [sys.executable, "-m", "paxos_twisted.node"]
TWISTD = [sys.executable, "-c", "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"]
TWISTD_NODE = [*TWISTD, "-n", "--pidfile=", "paxosnode"]


def run(command: list[str], folder: Path) -> tuple[int, str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PAXOS_CONFIG", "PAXOS_NODE_ID")}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.integration
@pytest.mark.parametrize("command", [NODE_COMMAND, TWISTD_NODE], ids=["paxosnode", "twistd"])
def test_check_as_a_process(folder: Path, command: list[str]) -> None:
    code, out, err = run([*command, "--config", "cluster.yml", "--check"], folder)
    assert (code, out, err) == (0, load("cluster.yml").effective(), "")
    assert run([*command, "--config", "bad.yml", "--check"], folder) == (2, "", BAD)


@pytest.mark.integration
def test_wrong_command_line_as_a_process(folder: Path) -> None:
    code, out, err = run([*NODE_COMMAND, "--config", "cluster.yml"], folder)
    assert (code, out) == (2, "")
    assert err == "paxosnode: which node? Say --node-id N, or set PAXOS_NODE_ID\nTry: paxosnode --help\n"
    code, out, err = run([*TWISTD_NODE, "--config", "cluster.yml"], folder)
    assert code == 1
    assert out.endswith("which node? Say --node-id N, or set PAXOS_NODE_ID\n")


@pytest.mark.integration
def test_node_refuses_to_run_without_assertions(folder: Path) -> None:
    command = [sys.executable, "-O", *NODE_COMMAND[1:], "--config", "cluster.yml", "--node-id", "2"]
    code, _, err = run(command, folder)
    assert code == 2
    assert err.startswith("paxosnode: a node does not run under python -O: it relies on its assertions\n")


@pytest.mark.integration
def test_help_of_both_commands(folder: Path) -> None:
    code, out, _ = run([*NODE_COMMAND, "--help"], folder)
    assert code == 0
    assert out.startswith("Usage: paxosnode [options]\n")
    code, out, _ = run([*TWISTD_NODE, "--help"], folder)
    assert code == 0
    assert out.startswith("Usage: twistd [options] paxosnode [options]\n")
    assert "paxosnode        A replica of a Paxos-Twisted cluster." in run([*TWISTD, "--help"], folder)[1]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(sock.getsockname()[1]) for sock in sockets]


@pytest.mark.integration
def test_node_starts_logs_as_asked_and_ends_on_sigterm(folder: Path) -> None:
    port, http = free_ports(2)
    Path("one.yml").write_text(make_config(0, ports=[(port, http)]))
    command = [*NODE_COMMAND, "--config", "one.yml", "--node-id", "1", "--first-start", "--json-log"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as node:
        assert node.stdout is not None
        try:
            seen = []
            for line in node.stdout:
                seen.append(json.loads(line))
                if "this node leads" in seen[-1]["message"]:
                    break
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/readyz", timeout=10) as page:
                assert (page.status, page.read()) == (200, b"ready\n")
            node.terminate()
            seen += [json.loads(line) for line in node.stdout]
            assert node.wait(10) == -signal.SIGTERM
        finally:
            node.kill()
    assert {entry["node"] for entry in seen} == {1}
    assert not [entry for entry in seen if entry["level"] not in ("debug", "info")]
    code, _, err = run(command, folder)
    assert code == 2
    assert "one.yml: --first-start, but node 1 has data in" in err


@pytest.mark.integration
def test_options_do_not_install_a_reactor(folder: Path) -> None:
    program = "import sys, paxos_twisted.node.options, paxos_twisted.node.http, paxos_twisted.node.logs, "
    program += "paxos_twisted.node.metrics, paxos_twisted.node.notify; print('twisted.internet.reactor' in sys.modules)"
    assert run([sys.executable, "-c", program], folder) == (0, "False\n", "")
