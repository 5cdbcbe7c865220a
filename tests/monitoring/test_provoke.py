"""Alerts are provoked for real and seen in Alertmanager: some of them here, all by `python -m prometheus.provoke`."""

import shutil

import pytest

from prometheus.alerts import ALERTS
from prometheus.provoke import PROVOCATIONS, provoke_all
from prometheus.servers import MissingProgram, program

SOME = ("PaxosQuorumLost", "PaxosNodeDown", "PaxosLeaderFlapping", "PaxosDiskNearlyFull")
"""One of each kind: whole cluster, one node, counted over time, a number that crosses a line."""


def test_every_alert_can_be_provoked() -> None:
    assert set(PROVOCATIONS) == {alert.name for alert in ALERTS}


@pytest.mark.integration
def test_alerts_are_seen_in_alertmanager() -> None:
    try:
        outcomes = list(provoke_all(SOME, hold="1s", at_once=2))
    except MissingProgram as missing:
        pytest.skip(str(missing))
    assert {outcome.alert for outcome in outcomes} == set(SOME)
    failed = [outcome for outcome in outcomes if outcome.seconds is None and not outcome.skipped]
    assert not failed
    if skipped := [f"{outcome.alert}: {outcome.text}" for outcome in outcomes if outcome.skipped]:
        pytest.skip("seen: the others; " + "; ".join(skipped))


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingProgram, match="apt-get install prometheus-alertmanager"):
        program("prometheus-alertmanager")
