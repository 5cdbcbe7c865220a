"""The virtual lab's names and addresses, and what it says when it cannot be made."""

from pathlib import Path

import pytest
from lab import host
from lab.plan import NODES_MAX, Lab, LabError


def test_three_nodes_and_a_monitor() -> None:
    lab = Lab.of("10.77.0.0/24")
    assert [(one.name, one.address) for one in lab.machines] == [
        ("node1", "10.77.0.1"),
        ("node2", "10.77.0.2"),
        ("node3", "10.77.0.3"),
        ("monitor", "10.77.0.100"),
    ]
    assert lab.gateway == "10.77.0.254"


def test_names_of_interfaces_fit_into_the_kernel() -> None:
    lab = Lab.of("172.31.255.0/24", NODES_MAX)
    names = [lab.bridge, *(machine.cable for machine in lab.machines)]
    assert len(set(names)) == NODES_MAX + 2
    assert max(map(len, names)) <= 15


def test_two_labs_share_no_name() -> None:
    first, second = Lab.of("10.77.0.0/24"), Lab.of("10.78.0.0/24")
    assert first.folder != second.folder and first.table != second.table
    names = [{machine.netns for machine in lab.machines} | {lab.bridge} for lab in (first, second)]
    assert names[0].isdisjoint(names[1])


@pytest.mark.parametrize(
    ("subnet", "nodes", "sentence"),
    [
        pytest.param("10.77.0.0", 3, "must be a /24 network", id="an address without a length"),
        pytest.param("10.77.0.1/24", 3, "is no subnet", id="an address inside a network"),
        pytest.param("8.8.8.0/24", 3, "private addresses", id="somebody else's network"),
        pytest.param("10.77.0.0/16", 3, "must be a /24 network", id="a large network"),
        pytest.param("fd00::/64", 3, "must be a /24 network", id="IPv6"),
        pytest.param("10.77.0.0/24", 0, "1 to 9 nodes", id="no nodes"),
        pytest.param("10.77.0.0/24", 10, "1 to 9 nodes", id="too many nodes"),
    ],
)
def test_a_lab_that_cannot_be_is_refused(subnet: str, nodes: int, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        Lab.of(subnet, nodes)


def test_an_unknown_machine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match="node1, node2, node3, monitor"):
        Lab.of("10.77.0.0/24").machine("node4")


def test_missing_packages_and_missing_root_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find", lambda command: None if command in ("debootstrap", "nft") else "/bin/true")
    monkeypatch.setattr(host.os, "geteuid", lambda: 1000)
    with pytest.raises(LabError) as refused:
        host.demand()
    root, packages = str(refused.value).splitlines()
    assert "it needs root" in root and "sudo" in root
    assert "these Debian packages are missing: debootstrap nftables" in packages
    assert "apt-get install" in packages


def test_the_same_mounts_are_found_innermost_first(tmp_path: Path) -> None:
    assert host.mounts_below(tmp_path) == []
    assert host.mounts_below(Path("/"))[-1] == Path("/")
