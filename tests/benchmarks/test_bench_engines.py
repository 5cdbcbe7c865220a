"""The comparison of engines: sites, round trips, and what theory expects at each site."""

import pytest

from benchmarks.engines import SITES, Variant, delay_rules, expected_ms, round_trip_ms
from paxos_twisted.net.faults import parse_rule

THRIFTY, TO_ALL, MULTI_PAXOS = Variant("epaxos"), Variant("epaxos", thrifty=False), Variant("multipaxos")


def test_round_trips_are_known_in_both_directions_and_can_be_halved() -> None:
    for one in SITES:
        for other in SITES:
            assert round_trip_ms(one, other) == round_trip_ms(other, one)
            assert round_trip_ms(one, other) % 2 == 0
        assert round_trip_ms(one, one) == 0


def test_every_link_gets_half_its_round_trip() -> None:
    rules = [parse_rule(text) for text in delay_rules()]
    delays = {(rule.src, rule.dst): rule.delay_ms for rule in rules}
    assert len(delays) == 20
    assert delays[1, 3] == delays[3, 1] == 75


@pytest.mark.parametrize(
    ("site", "variant", "leader", "expected"),
    [
        pytest.param(0, THRIFTY, 0, 150, id="CA asks VA and EU, the next two by id"),
        pytest.param(0, TO_ALL, 0, 72, id="CA asks all; OR and VA are the nearest two"),
        pytest.param(3, MULTI_PAXOS, 3, 70, id="the leader's own clients: OR hears CA and VA"),
        pytest.param(2, MULTI_PAXOS, 3, 214, id="EU: the way to OR, and the leader's quorum"),
    ],
)
def test_what_theory_expects(site: int, variant: Variant, leader: int, expected: float) -> None:
    assert expected_ms(site, variant, leader) == expected


def test_epaxos_to_all_is_ahead_of_multi_paxos_wherever_the_leader_is_not() -> None:
    for leader in range(len(SITES)):
        for site in range(len(SITES)):
            if site != leader:
                assert expected_ms(site, TO_ALL, 0) < expected_ms(site, MULTI_PAXOS, leader)
