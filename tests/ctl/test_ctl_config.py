"""paxosctl without a cluster: configurations are made and checked, first starts prepared, mistakes named."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from paxos_twisted.ctl.main import cli
from paxos_twisted.node.config import load


def call(*words: object, env: dict[str, str | None] | None = None) -> Result:
    """Run paxosctl in this process."""
    nothing: dict[str, str | None] = {"PAXOS_CONFIG": None, "PAXOS_OUTPUT": None}
    return CliRunner().invoke(cli, [str(word) for word in words], env=nothing | (env or {}))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a secret, as `config make --out` writes it."""
    path = tmp_path / "cluster.yml"
    assert call("config", "make", "--out", path).exit_code == 0
    return path


def test_a_made_configuration_is_printed_and_passes_the_check(tmp_path: Path) -> None:
    made = call("config", "make", "-f", 2, "--cluster", "five", "--profile", "lab")
    path = tmp_path / "c.yml"
    path.write_text(made.stdout)
    assert len(load(path).members) == 5
    checked = call("config", "check", path)
    assert checked.exit_code == 0
    assert "ok: 5 nodes of cluster five, 2 of them may fail (multipaxos, bank, profile lab" in checked.stdout


def test_a_written_configuration_has_a_secret_that_nobody_else_can_read(config: Path) -> None:
    secret = config.parent / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert load(config).secret is not None


def test_a_configuration_is_not_overwritten(config: Path) -> None:
    before = config.read_bytes()
    again = call("config", "make", "--out", config)
    assert again.exit_code == 1
    assert "exists" in again.stderr
    assert config.read_bytes() == before


def test_the_effective_configuration_can_be_read_back(config: Path) -> None:
    text = call("config", "check", config, "--effective").stdout
    (config.parent / "effective.yml").write_text(text)
    assert load(config.parent / "effective.yml").shared == load(config).shared


def test_a_configuration_is_checked_as_if_it_stood_elsewhere(config: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "new" / "validated.tmp"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(config.read_bytes())
    assert call("config", "check", elsewhere).exit_code == 2  # its secret is not there
    assert call("config", "check", elsewhere, "--as", config).exit_code == 0


def test_every_mistake_is_named_with_its_line(config: Path) -> None:
    config.write_text(config.read_text().replace("profile: default", "profle: default").replace("id: 3", "id: 2"))
    checked = call("config", "check", config)
    assert checked.exit_code == 2
    assert checked.stdout == ""
    problems = checked.stderr.splitlines()
    assert any("profle" in line and 'did you mean "profile"' in line for line in problems)
    assert any("nodes[2]" in line for line in problems)
    assert all(line.startswith(f"{config}:") for line in problems)


def test_mistakes_for_programs(config: Path) -> None:
    config.write_text("cluster: x\n")
    checked = call("config", "check", config, "--output", "json")
    assert checked.exit_code == 2
    report = json.loads(checked.stdout)
    assert report["ok"] is False
    assert report["problems"]


def test_a_first_start_is_prepared_once(config: Path) -> None:
    first = call("init", "--config", config, "--node-id", 1)
    assert first.exit_code == 0
    assert "ready for its first start" in first.stdout
    second = call("--config", config, "init", "--node-id", 1)
    assert second.exit_code == 1
    assert "not empty" in second.stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        pytest.param(["status"], 2, "Which cluster?", id="no configuration"),
        pytest.param(["-c", "/nowhere.yml", "status"], 2, "/nowhere.yml: cannot be read", id="one that is not there"),
        pytest.param(["init", "-c", "CONFIG", "-i", "9"], 2, "there is no node 9", id="first start of an unknown node"),
        pytest.param(["-c", "CONFIG", "metrics", "9"], 2, "There is no node '9'; there are 1, 2, 3", id="unknown node"),
        pytest.param(["-c", "CONFIG", "metrics", "all"], 2, "of one node", id="metrics of all"),
        pytest.param(["-c", "CONFIG", "fault", "1", "set"], 2, "at least one RULE", id="a fault without a rule"),
        pytest.param(["-c", "CONFIG", "fault", "1", "clear", "x"], 2, "take none", id="clearing with a rule"),
        pytest.param(
            ["-c", "CONFIG", "--timeout", "5", "status"], 2, "is not a duration", id="a time without its unit"
        ),
        pytest.param(["config", "make", "-f", "9"], 2, "range", id="a cluster that is too large"),
    ],
)
def test_wrong_command_lines_are_explained(
    config: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, text: str
) -> None:
    monkeypatch.chdir("/")
    done = call(*[str(config) if word == "CONFIG" else word for word in words])
    assert done.exit_code == code
    assert text in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("form", ["option", "environment", "folder"])
def test_the_configuration_is_found(config: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.chdir(config.parent if form == "folder" else "/")
    words = ["-c", config] if form == "option" else []
    env: dict[str, str | None] = {"PAXOS_CONFIG": str(config)} if form == "environment" else {}
    done = call(*words, "leader", env=env)
    assert done.exit_code == 4  # it was found, but nobody runs
    assert "nobody leads" in done.stderr


def test_a_cluster_that_does_not_run_is_shown_and_judged_as_such(config: Path) -> None:
    # At the usual address somebody's cluster may run just now.
    config.write_text(config.read_text().replace("127.0.0.1", "127.77.0.1"))
    shown = call("-c", config, "status")
    assert shown.exit_code == 4
    assert shown.stdout.count("nobody listens there") == 3
    judged = call("-c", config, "--output", "json", "verify", "--wait", "100ms")
    assert judged.exit_code == 4
    assert json.loads(judged.stdout)["verdict"] == "unknown"
    ordered = call("-c", config, "snapshot", "2")
    assert ordered.exit_code == 1
    assert "nobody listens there" in ordered.stdout


def test_without_a_secret_no_order_is_given(tmp_path: Path) -> None:
    path = tmp_path / "plain.yml"
    path.write_text(call("config", "make").stdout)
    done = call("-c", path, "fault", "all", "clear")
    assert done.exit_code == 1
    assert "secret_file" in done.stdout
