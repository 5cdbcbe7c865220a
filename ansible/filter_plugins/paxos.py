"""What the playbooks check and compute: plain functions of values, so that they can be tested without machines.

Each check returns a list of sentences, one for each thing that is wrong, that say what to do about it.
"""

import difflib
import ipaddress
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

COUNTS = (1, 3, 5, 7, 9)
PYTHON_MIN = (3, 11)
FREE_MB_MIN = 100
CRASH_DISTANCE = 600
"""Commands between two faults of one scenario: time enough for a failover at the usual rate."""
SHARED = (
    *("cluster", "engine", "application", "profile", "alpha", "detector", "timeouts"),
    *("primary_backup", "snapshot_every", "session_expiry", "nodes"),
)
"""Keys of cluster.yml that must be equal on all nodes at all times (docs/configuration.md)."""

OWNERS = ("cluster", "engine", "application")
"""Keys that a node's data belongs to: with others it is of no use."""

PORTS_AND_IDS = ("paxosnode_id", "cluster_port", "cluster_http_port")

HOST_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")


def cluster_hosts(hostvars: Any, names: list[str], port: int, http_port: int) -> dict[str, dict[str, Any]]:
    """Of each host what the other checks need. `hostvars` is Ansible's; hosts may have ports of their own."""
    return {
        name: {
            "address": hostvars[name].get("ansible_host", name),
            "id": hostvars[name].get("paxosnode_id", 0),
            "port": hostvars[name].get("cluster_port", port),
            "http_port": hostvars[name].get("cluster_http_port", http_port),
            "variables": {key: hostvars[name].get(key) for key in hostvars[name] if "_" in key},
        }
        for name in names
    }


def inventory_problems(
    hosts: Mapping[str, Mapping[str, Any]], groups: Mapping[str, list[str]], roles: str
) -> list[str]:
    """What is wrong with an inventory, told before any machine is touched.

    `hosts`: of each host its address, and all its variables under `variables`. `roles`: the folder of the roles.
    """
    problems = []
    nodes = groups.get("paxosnodes", [])
    engines = {hosts[host]["variables"].get("cluster_engine") for host in nodes}
    if len(nodes) not in COUNTS and not (engines == {"primary-backup"} and 2 <= len(nodes) <= COUNTS[-1]):
        problems.append(
            f"the group paxosnodes has {len(nodes)} hosts; write 1, 3, 5, 7 or 9 of them "
            f"(2F+1 nodes survive F failures)"
        )
    if len(groups.get("monitoring", [])) != 1:
        problems.append(f"the group monitoring has {len(groups.get('monitoring', []))} hosts; write exactly one")
    if not groups.get("clients"):
        problems.append("the group clients is empty; name at least one host that runs bankclient")
    problems += _id_problems(nodes, hosts)
    problems += _address_problems(hosts)
    problems += _wrong_variables(hosts, Path(roles))
    return problems


def machine_problems(found: Mapping[str, Mapping[str, Any]], nodes: list[str]) -> list[str]:
    """What is wrong with machines: `found` is the result of paxos_facts on each, or why it could not be had."""
    problems = []
    for host, result in found.items():
        if result.get("unreachable"):
            problems.append(f"{host} cannot be reached: {_reason(str(result.get('msg', '')))}")
            continue
        if "facts" not in result:
            problems.append(f"{host}: {_reason(str(result.get('msg', result)))}")
            continue
        problems += [f"{host}: {text}" for text in _machine(result["facts"], host in nodes)]
    return problems


def cluster_nodes(names: list[str], hosts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The section `nodes` of cluster.yml, by id, with the name in the inventory as `host`."""
    rows = [
        {
            "host": name,
            "id": int(hosts[name]["id"]),
            "address": _place(hosts[name]["address"], hosts[name]["port"]),
            "http": _place(hosts[name]["address"], hosts[name]["http_port"]),
        }
        for name in names
    ]
    return sorted(rows, key=lambda row: row["id"])


def change_problems(wanted: str, found: Mapping[str, str], stop_all: bool) -> list[str]:
    """Whether cluster.yml may become what is wanted, while a cluster runs with what is found (by host; "" is none).

    Nodes whose shared settings differ refuse each other, so these cannot be changed one node after the other.
    """
    new = yaml.safe_load(wanted)
    changes: dict[str, list[str]] = {}
    for host, text in found.items():
        old = _yaml(text)
        if old:
            for change in _differences(old, new):
                changes.setdefault(change, []).append(host)
    if not changes:
        return []
    listed = "; ".join(changes)
    if any(change.startswith("nodes: the ids") for change in changes):
        return [
            f"the cluster on these machines has other nodes ({listed}); nodes cannot be added or removed yet: "
            f"give the inventory its old nodes back, or remove the cluster with destroy.yml"
        ]
    for key in OWNERS:
        if any(change.startswith(f"{key}: ") for change in changes):
            return [
                f"the nodes' data belongs to another cluster ({listed}); undo the change in the inventory, or remove "
                f"that cluster with destroy.yml"
            ]
    if stop_all:
        return []
    return [
        f"this changes what must be equal on all nodes at all times: {listed}. Nodes that differ in it refuse "
        f"each other, so all must stop for it: say -e deploy_stop_all=yes, or undo the change in the inventory"
    ]


def start_problems(nodes: Mapping[str, Mapping[str, Any]], first_start: Iterable[str]) -> list[str]:
    """Whether all nodes may start: either none has ever run, or all have. A node whose disk is lost has forgotten what
    it promised and must not come back under its old id. [protocol-rules 2.9]"""
    allowed = set(first_start)
    empty = [host for host, facts in nodes.items() if not facts["data"]["has_log"]]
    full = [host for host in nodes if host not in empty]
    strange = [host for host in empty if _strangers(nodes[host]["data"]["entries"])]
    problems = [
        f"{host}: its data directory holds {_listed(_strangers(nodes[host]['data']['entries']))} but no log of a node; "
        f"empty it if that is not needed"
        for host in strange
    ]
    for host in allowed.intersection(full):
        problems.append(f"{host}: has a log already; take it out of paxosnode_first_start")
    missing = [host for host in empty if host not in allowed]
    if full and missing:
        first = missing[0]
        problems.append(
            f"{_have(missing)} no data, but {_have(full)}. If {first} has really never run "
            "(an interrupted first deploy), "
            f'say -e \'{{"paxosnode_first_start": ["{first}"]}}\'. If it has, its disk is lost and with it what it '
            f"promised: do not start it so"
        )
    return problems


def crash_agent(node: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], port: int) -> str:
    """A node, where its agent listens, where it tells its status, and where clients connect, as trigger.py wants it."""
    return f"{node['host']}={_place(hosts[node['host']]['address'], port)}={node['http']}={node['address']}"


def crash_mark(number: int, at: int, command: str) -> str:
    """The options of bankclient that start `command` once, for the fault with this number."""
    return f"--at {int(at) + number * CRASH_DISTANCE} --run {shlex.quote(command)}"


def unreachable_reason(text: str) -> str:
    """What ssh meant, as a sentence."""
    return _reason(text)


def _id_problems(nodes: list[str], hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    problems = []
    owners: dict[int, str] = {}
    for host in nodes:
        value = hosts[host]["variables"].get("paxosnode_id")
        text = str(value)
        if value is None:
            problems.append(f"{host} has no paxosnode_id; give it a number from 1 to 999 that it keeps for ever")
        elif not text.isdecimal() or not 1 <= int(text) <= 999:
            problems.append(f"{host}: paxosnode_id is {value!r}; it must be a number from 1 to 999")
        elif int(text) in owners:
            problems.append(f"{host}: paxosnode_id {text} is the id of {owners[int(text)]} too")
        else:
            owners[int(text)] = host
    return problems


def _address_problems(hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    problems = []
    places: dict[str, str] = {}
    for host, known in hosts.items():
        address = str(known["address"])
        if address in ("", "CHANGE_ME") or not (_is_ip(address) or HOST_NAME.match(address)):
            problems.append(f"{host}: ansible_host is {address!r}; write the address or name of the machine")
            continue
        if _is_ip(address) and ipaddress.ip_address(address).is_loopback and len(hosts) > 1:
            problems.append(
                f"{host}: ansible_host is {address}, which every machine calls itself; write its own address"
            )
        for kind in ("port", "http_port") if "paxosnode_id" in known["variables"] else ():
            port = str(known[kind])
            if not port.isdecimal() or not 1 <= int(port) <= 65535:
                problems.append(f"{host}: its {kind} is {known[kind]!r}; it must be a number from 1 to 65535")
                continue
            place = _place(address, known[kind])
            if place in places:
                problems.append(f"{host}: {place} is used by {places[place]} too")
            places[place] = host
    return problems


def _wrong_variables(hosts: Mapping[str, Mapping[str, Any]], roles: Path) -> list[str]:
    """Misspelled settings would be ignored without a word, and wrong values be found late, by one machine after the
    other."""
    known: dict[str, Mapping[str, Any]] = {}
    prefixes = []
    for specification in sorted(roles.glob("*/meta/argument_specs.yml")):
        prefixes.append(specification.parent.parent.name + "_")
        for entry in yaml.safe_load(specification.read_text())["argument_specs"].values():
            known.update(entry.get("options", {}))
    found: dict[str, list[str]] = {}
    for host, about in hosts.items():
        for name, value in about["variables"].items():
            if not name.startswith(tuple(prefixes)):
                continue
            problem = _unknown(name, known) if name not in known else _wrong_value(name, value, known[name])
            if problem:
                found.setdefault(problem, []).append(host)
    return [f"{_listed(where[:3])}{' …' if len(where) > 3 else ''}: {problem}" for problem, where in found.items()]


def _wrong_value(name: str, value: Any, option: Mapping[str, Any]) -> str:
    choices = option.get("choices")
    if choices and value not in choices:
        return f"{name} is {value!r}; it can be {' or '.join(map(str, choices))}"
    if name in PORTS_AND_IDS:  # they are checked together with the others of their kind
        return ""
    if option["type"] == "int" and not (isinstance(value, int) or str(value).isdecimal()):
        return f"{name} is {value!r}; it must be a whole number"
    if option["type"] == "dict" and not isinstance(value, Mapping):
        return f"{name} is {value!r}; it must be a table of names and values"
    return ""


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    advice = f"; did you mean {near[0]}?" if near else "; the roles' meta/argument_specs.yml list all there are"
    return f"there is no setting {name}{advice}"


def _machine(facts: Mapping[str, Any], is_node: bool) -> list[str]:
    problems = []
    name = facts["os"].get("pretty_name", "an unknown system")
    family = {facts["os"].get("id"), *facts["os"].get("id_like", "").split()}
    if not family & {"debian", "ubuntu"}:
        problems.append(f"runs {name}; the playbooks know Debian and Ubuntu")
    if not facts["has_systemd"]:
        problems.append("is not run by systemd, which starts and watches our services")
    if not facts["is_root"]:
        problems.append("we do not become root there; check ansible_become and sudo")
    if tuple(facts["python"][:2]) < PYTHON_MIN:
        version = ".".join(map(str, facts["python"]))
        problems.append(
            f"has Python {version} as {facts['python_executable']}, and 3.11 is needed; install a newer one and "
            f"name it in ansible_python_interpreter"
        )
    if is_node and facts["data"]["free_mb"] < FREE_MB_MIN:
        problems.append(
            f"has {facts['data']['free_mb']} MB left at {facts['data']['mount']}, "
            f"and a node wants {FREE_MB_MIN} or more; "
            f"make room there"
        )
    for one in facts["listeners"]:
        if is_node and not one["is_ours"]:
            problems.append(
                f"port {one['port']} is taken by {one['process']} (pid {one['pid']}); stop it, or choose other "
                f"ports with cluster_port and cluster_http_port"
            )
    return problems


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    for key in SHARED:
        if key == "nodes":
            before = {node["id"]: node["address"] for node in old.get("nodes", [])}
            after = {node["id"]: node["address"] for node in new["nodes"]}
            if before.keys() != after.keys():
                found.append(f"nodes: the ids {_listed(sorted(before))} become {_listed(sorted(after))}")
                continue
            found += [
                f"address of node {number}: {before[number]} becomes {after[number]}"
                for number in after
                if before[number] != after[number]
            ]
        elif old.get(key) != new.get(key):
            found.append(f"{key}: {old.get(key)!r} becomes {new.get(key)!r}")
    return found


def _strangers(entries: Iterable[str]) -> list[str]:
    return [entry for entry in entries if entry not in ("lost+found", "lock")]


def _yaml(text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}


def _reason(text: str) -> str:
    """ssh and sudo say many words; these are the ones that help."""
    for pattern, sentence in (
        ("Permission denied", "it refuses our key; check ansible_user and ansible_ssh_private_key_file"),
        ("REMOTE HOST IDENTIFICATION HAS CHANGED", "it shows another host key than before; see ssh-keygen -R"),
        (
            "Host key verification failed",
            "its host key is not known; log in once with ssh, and compare the fingerprint",
        ),
        ("Connection refused", "nothing answers ssh there; is the address right, and sshd running?"),
        ("timed out", "it does not answer; is it on, and is its address right?"),
        ("No route to host", "it does not answer; is it on, and is its address right?"),
        ("Could not resolve hostname", "its name is unknown; write its address as ansible_host"),
        ("password is required", "sudo wants a password there; say --ask-become-pass"),
        ("Missing sudo password", "sudo wants a password there; say --ask-become-pass"),
        ("not found", "a program is missing: " + " ".join(text.split())[:200]),
    ):
        if pattern in text:
            return sentence
    return " ".join(text.split())[:300]


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _have(hosts: list[str]) -> str:
    return f"{_listed(hosts)} {'has' if len(hosts) == 1 else 'have'}"


def _place(address: Any, port: Any) -> str:
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def _listed(values: Iterable[Any]) -> str:
    texts = [str(value) for value in values]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Filters by their names in playbooks."""
        return {
            "cluster_hosts": cluster_hosts,
            "inventory_problems": inventory_problems,
            "machine_problems": machine_problems,
            "cluster_nodes": cluster_nodes,
            "change_problems": change_problems,
            "start_problems": start_problems,
            "crash_agent": crash_agent,
            "crash_mark": crash_mark,
            "unreachable_reason": unreachable_reason,
        }
