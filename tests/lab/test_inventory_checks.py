"""A wrong inventory, a machine that cannot be used, a change that would split the cluster: each gives one sentence."""

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"


def load(path: Path) -> Any:
    """A file of Ansible's, as a module."""
    spec = importlib.util.spec_from_file_location(f"ansible_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


paxos = load(ANSIBLE / "filter_plugins" / "paxos.py")
ROLES = str(ANSIBLE / "roles")


def host(address: str, number: int | None = None, **variables: Any) -> dict[str, Any]:
    known = {"paxosnode_id": number} if number is not None else {}
    return {
        "address": address,
        "id": number or 0,
        "port": variables.get("cluster_port", 7101),
        "http_port": variables.get("cluster_http_port", 7201),
        "variables": known | variables,
    }


HOSTS = {
    "node1": host("10.0.0.1", 1),
    "node2": host("10.0.0.2", 2),
    "node3": host("10.0.0.3", 3),
    "monitor": host("10.0.0.9", cluster_name="lab"),
}
GROUPS = {"paxosnodes": ["node1", "node2", "node3"], "monitoring": ["monitor"], "clients": ["monitor"]}


def test_a_good_inventory_has_no_problems() -> None:
    assert paxos.inventory_problems(HOSTS, GROUPS, ROLES) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param({"node3": host("10.0.0.3", 2)}, "node3: paxosnode_id 2 is the id of node2 too", id="an id twice"),
        pytest.param({"node3": host("10.0.0.3")}, "node3 has no paxosnode_id", id="no id"),
        pytest.param({"node3": host("10.0.0.3", 1000)}, "must be a number from 1 to 999", id="an id that is too large"),
        pytest.param(
            {"node3": host("10.0.0.2", 3)}, "node3: 10.0.0.2:7101 is used by node2 too", id="an address twice"
        ),
        pytest.param({"node2": host("CHANGE_ME", 2)}, "node2: ansible_host is 'CHANGE_ME'", id="an unedited inventory"),
        pytest.param({"node2": host("127.0.0.1", 2)}, "which every machine calls itself", id="a loopback address"),
        pytest.param(
            {"node2": host("10.0.0.2", 2, cluster_port=70000)}, "its port is 70000", id="a port that cannot exist"
        ),
        pytest.param(
            {"monitor": host("10.0.0.9", cluster_nmae="x")},
            "there is no setting cluster_nmae; did you mean cluster_name?",
            id="a misspelled setting",
        ),
        pytest.param(
            {"monitor": host("10.0.0.9", cluster_engine="raft")},
            "monitor: cluster_engine is 'raft'; it can be epaxos or multipaxos or primary-backup",
            id="an engine that we have not",
        ),
        pytest.param(
            {"monitor": host("10.0.0.9", cluster_snapshot_every="often")},
            "cluster_snapshot_every is 'often'; it must be a whole number",
            id="a word for a number",
        ),
        pytest.param(
            {"monitor": host("10.0.0.9", cluster_detector="fast")},
            "cluster_detector is 'fast'; it must be a table",
            id="a word for a table",
        ),
    ],
)
def test_a_wrong_host_is_told_with_its_name(change: dict[str, Any], sentence: str) -> None:
    (problem,) = paxos.inventory_problems({**HOSTS, **change}, GROUPS, ROLES)[:1]
    assert sentence in problem


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        pytest.param({"paxosnodes": ["node1", "node2"]}, "paxosnodes has 2 hosts", id="an even number of nodes"),
        pytest.param({"monitoring": []}, "the group monitoring has 0 hosts", id="no monitor"),
        pytest.param({"clients": []}, "the group clients is empty", id="no clients"),
    ],
)
def test_wrong_groups_are_told(groups: dict[str, list[str]], sentence: str) -> None:
    assert any(sentence in problem for problem in paxos.inventory_problems(HOSTS, {**GROUPS, **groups}, ROLES))


def test_primary_backup_may_have_an_even_number_of_nodes() -> None:
    groups = {**GROUPS, "paxosnodes": ["node1", "node2"]}
    hosts = {
        name: {**one, "variables": {**one["variables"], "cluster_engine": "primary-backup"}}
        for name, one in HOSTS.items()
    }
    assert paxos.inventory_problems(hosts, groups, ROLES) == []


FACTS: dict[str, Any] = {
    "python": [3, 11, 2],
    "python_executable": "/usr/bin/python3",
    "os": {"id": "debian", "pretty_name": "Debian 12"},
    "is_root": True,
    "has_systemd": True,
    "unit": {"pid": 10},
    "data": {"free_mb": 1000, "mount": "/var", "has_log": False, "entries": []},
    "listeners": [],
}


def facts(**changes: Any) -> dict[str, Any]:
    return {"facts": {**copy.deepcopy(FACTS), **changes}}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        pytest.param({"unreachable": True, "msg": "ssh: Permission denied (publickey)."}, "refuses our key", id="key"),
        pytest.param({"unreachable": True, "msg": "ssh: Connection timed out"}, "it does not answer", id="off"),
        pytest.param({"msg": "sudo: a password is required"}, "--ask-become-pass", id="sudo wants a password"),
        pytest.param(facts(python=[3, 10, 12]), "has Python 3.10.12", id="an old Python"),
        pytest.param(facts(os={"id": "fedora", "pretty_name": "Fedora 43"}), "runs Fedora 43", id="another system"),
        pytest.param(facts(is_root=False), "do not become root", id="no root"),
        pytest.param(facts(has_systemd=False), "is not run by systemd", id="no systemd"),
        pytest.param(
            facts(data={"free_mb": 3, "mount": "/var", "has_log": False, "entries": []}),
            "has 3 MB left",
            id="disk full",
        ),
        pytest.param(
            facts(listeners=[{"port": 7101, "pid": 7, "process": "nginx", "is_ours": False}]),
            "port 7101 is taken by nginx (pid 7)",
            id="a port is taken",
        ),
    ],
)
def test_a_machine_that_cannot_be_used_is_told(result: dict[str, Any], sentence: str) -> None:
    (problem,) = paxos.machine_problems({"node1": result}, ["node1"])
    assert problem.startswith("node1") and sentence in problem


def test_our_own_node_may_hold_its_port() -> None:
    ours = facts(listeners=[{"port": 7101, "pid": 10, "process": "paxosnode", "is_ours": True}])
    assert paxos.machine_problems({"node1": ours}, ["node1"]) == []


CLUSTER = """
cluster: lab
engine: multipaxos
application: bank
profile: default
snapshot_every: 100000
session_expiry: 10000000
secret_file: secret
nodes:
  - {id: 1, address: "10.0.0.1:7101", http: "10.0.0.1:7201", data_dir: /a}
  - {id: 2, address: "10.0.0.2:7101", http: "10.0.0.2:7201", data_dir: /a}
  - {id: 3, address: "10.0.0.3:7101", http: "10.0.0.3:7201", data_dir: /a}
"""


def test_an_unchanged_cluster_may_stay() -> None:
    assert paxos.change_problems(CLUSTER, {"node1": CLUSTER, "node2": ""}, False) == []


def test_a_changed_http_port_may_be_rolled_out() -> None:
    assert paxos.change_problems(CLUSTER.replace(":7201", ":7301"), {"node1": CLUSTER}, False) == []


def test_a_changed_port_needs_all_nodes_to_stop() -> None:
    wanted = CLUSTER.replace(":7101", ":7102")
    (problem,) = paxos.change_problems(wanted, {"node1": CLUSTER}, False)
    assert "address of node 1: 10.0.0.1:7101 becomes 10.0.0.1:7102" in problem
    assert "-e deploy_stop_all=yes" in problem
    assert paxos.change_problems(wanted, {"node1": CLUSTER}, True) == []


def test_other_nodes_are_refused_even_when_all_stop() -> None:
    wanted = CLUSTER.replace("id: 3", "id: 4")
    (problem,) = paxos.change_problems(wanted, {"node1": CLUSTER}, True)
    assert "the ids 1, 2 and 3 become 1, 2 and 4" in problem


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("cluster: lab", "cluster: other", id="another cluster"),
        pytest.param("engine: multipaxos", "engine: other", id="another engine"),
        pytest.param("application: bank", "application: other", id="another application"),
    ],
)
def test_data_of_another_cluster_is_refused_even_when_all_stop(old: str, new: str) -> None:
    (problem,) = paxos.change_problems(CLUSTER.replace(old, new), {"node1": CLUSTER}, True)
    key = old.partition(":")[0]
    assert f"the nodes' data belongs to another cluster ({key}: " in problem
    assert "destroy.yml" in problem


def with_data(*full: str) -> dict[str, Any]:
    """Three nodes, some of which have a log."""
    return {
        name: {"data": {"has_log": name in full, "entries": ["node.db"] if name in full else ["lost+found"]}}
        for name in ("node1", "node2", "node3")
    }


def test_a_new_cluster_may_start_and_so_may_an_old_one() -> None:
    assert paxos.start_problems(with_data(), []) == []
    assert paxos.start_problems(with_data("node1", "node2", "node3"), []) == []


def test_a_node_without_data_may_not_come_back_under_its_old_id() -> None:
    (problem,) = paxos.start_problems(with_data("node1", "node3"), [])
    assert problem.startswith("node2 has no data, but node1 and node3 have.")
    assert "do not start it so" in problem


def test_a_person_may_say_that_it_has_never_run() -> None:
    assert paxos.start_problems(with_data("node1", "node3"), ["node2"]) == []
    (problem,) = paxos.start_problems(with_data("node1", "node2", "node3"), ["node2"])
    assert "has a log already" in problem


def test_strange_files_in_the_data_directory_are_told() -> None:
    nodes = with_data()
    nodes["node2"]["data"]["entries"] = ["photos", "lost+found"]
    (problem,) = paxos.start_problems(nodes, [])
    assert "node2: its data directory holds photos" in problem
