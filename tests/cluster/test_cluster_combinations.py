"""Every application on every engine: real processes, a crash in the middle, everything that clients saw checked."""

import json

import pytest
from cluster_tools import run

from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.core.registry import ENGINES
from paxos_twisted.ctl.agreement import LEADERLESS

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("application", APPLICATIONS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_crash_in_the_middle_loses_and_doubles_nothing(engine: str, application: str) -> None:
    kind = "kill replica" if engine in LEADERLESS else "kill leader"
    words = ["--engine", engine, "--application", application, "--kind", kind]
    done = run("paxoscluster", "soak", "--rounds", 1, "--seed", 7, "--output", "json", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "ok"
    assert report["kinds"][kind]["rounds"] == 1
    assert report["windows"] == 1
    assert report["checked"] >= 50
