"""The rule files: current, valid, named by the conventions, each alert with its page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from paxos_twisted.node.config import load, make_config
from prometheus.__main__ import FOLDER, generated
from prometheus.alerts import ALERTS, RUNBOOKS
from prometheus.recording import RECORDINGS
from prometheus.rules import SEVERITIES, Alert, Recording, runbook_url
from prometheus.targets import main
from prometheus.thresholds import EVALUATION_S, JOB, MACHINES, SCRAPE_TIMEOUT_S

HOME = FOLDER.parent
ROOT = HOME.parent

# Of conventions CV-12, without certificates: the nodes have none yet.
PROMISED = """
PaxosNoLeader PaxosQuorumLost PaxosNodeDown PaxosLeaderFlapping PaxosCommitStalled PaxosClientLatencyHigh
PaxosFsyncSlow PaxosReactorBlocked PaxosReplicaLagging PaxosStateDiverged PaxosDiskNearlyFull PaxosClockSkew
PaxosMetricsMissing
"""


def run(*command: str) -> str:
    """What a program prints when it succeeds."""
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("path", "text"), generated().items(), ids=[path.name for path in generated()])
def test_generated_file_is_current(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run: python -m prometheus"


def test_there_is_no_rule_file_that_nobody_generates() -> None:
    assert set(FOLDER.iterdir()) == {path for path in generated() if path.parent == FOLDER}


def test_prometheus_accepts_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in run("promtool", "check", "rules", *map(str, FOLDER.iterdir()))


def test_prometheus_accepts_its_configuration_with_targets(tmp_path: Path) -> None:
    shutil.copytree(HOME / "rules", tmp_path / "rules")
    shutil.copy(HOME / "prometheus.yml", tmp_path)
    (tmp_path / "targets").mkdir()
    for job in (JOB, MACHINES, "bankclient", "alertmanager"):
        (tmp_path / "targets" / f"{job}.yml").write_text("- targets: ['127.0.0.1:9100']\n", encoding="utf-8")
    assert "WARNING" not in run("promtool", "check", "config", str(tmp_path / "prometheus.yml"))


def test_alertmanager_accepts_the_example() -> None:
    run("amtool", "check-config", str(HOME / "alertmanager.yml"))


def test_alertmanager_mutes_only_alerts_that_exist() -> None:
    text = (HOME / "alertmanager.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"Paxos\w+", text)) - {"Paxos"} <= {alert.name for alert in ALERTS}


def test_times_of_scrapes_are_those_that_the_rules_count_on() -> None:
    configuration = yaml.safe_load((HOME / "prometheus.yml").read_text(encoding="utf-8"))["global"]
    assert configuration["scrape_interval"] == configuration["evaluation_interval"] == f"{EVALUATION_S}s"
    assert configuration["scrape_timeout"] == f"{SCRAPE_TIMEOUT_S * 1000:g}ms"


def test_every_promised_alert_is_there() -> None:
    assert {alert.name for alert in ALERTS} == set(PROMISED.split())


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alert_keeps_to_the_conventions(alert: Alert) -> None:
    assert re.fullmatch(r"Paxos([A-Z][a-z]+)+", alert.name)
    assert alert.severity in SEVERITIES
    assert alert.description.endswith(".")
    assert not alert.summary.endswith(".")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alert_has_a_page_that_says_what_to_do(alert: Alert) -> None:
    text = (ROOT / runbook_url(alert, RUNBOOKS)).read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "What it means for clients",
        "What to look at first",
        "What to do",
    ]


def test_every_page_belongs_to_an_alert() -> None:
    pages = {page.stem for page in (ROOT / RUNBOOKS).glob("Paxos*.md")}
    assert pages == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("rule", RECORDINGS, ids=lambda rule: rule.name)
def test_recording_rule_keeps_to_the_conventions(rule: Recording) -> None:
    level, metric, operation = rule.name.split(":")
    assert level in ("node", "cluster")
    assert rule.labels == (("cluster", "node") if level == "node" else ("cluster",))
    assert re.fullmatch(r"paxos(_[a-z]+)+", metric)
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", operation)
    assert rule.meaning.endswith(".")


def test_targets_of_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yml"
    path.write_text(make_config(1, cluster="lab", ports=[(7101, 7201), (7102, 7202), (7103, 7203)]), encoding="utf-8")
    shown = CliRunner().invoke(main, [str(path)])
    assert shown.exit_code == 0
    assert yaml.safe_load(shown.stdout) == [
        {"targets": [f"127.0.0.1:720{node}"], "labels": {"cluster": "lab", "node": str(node)}} for node in (1, 2, 3)
    ]
    assert load(path).shared.cluster == "lab"


def test_targets_of_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yml"
    path.write_text("cluster: lab\n", encoding="utf-8")
    shown = CliRunner().invoke(main, [str(path)])
    assert shown.exit_code == 2
    assert "cluster.yml" in shown.stderr
