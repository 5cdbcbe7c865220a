"""What the values of a cluster configuration must be to each other: counts, differences, relations between times."""

import os
from pathlib import Path

from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.core.epaxos.settings import Settings as EPaxosSettings
from paxos_twisted.core.multipaxos.settings import Settings
from paxos_twisted.limits import NODES_MAX, SESSION_WINDOW
from paxos_twisted.node.cluster_file import ClusterFile, EPaxosSection, NodeSection, Report, one_of
from paxos_twisted.node.quantities import Address, Duration, format_duration

TIME_MS_MIN = 20
"""The engine's clock ticks this often; shorter times would be longer than they say."""

HEARTBEATS_PER_DELAY = 3
"""A node is suspected only after it has had the time for this many heartbeats: one lost message must not do it."""


def check(file: ClusterFile, settings: Settings, folder: Path, report: Report) -> None:
    """Report all that does not go together. Relative paths start at `folder`."""
    if file.application:
        try:
            one_of(file.application, tuple(APPLICATIONS))
        except ValueError as error:
            report.error(("application",), str(error))
    _check_times(settings, report)
    least = SESSION_WINDOW + settings.alpha
    if file.session_expiry < least:
        report.error(
            ("session_expiry",),
            f"{file.session_expiry} is too short: a session must outlive the requests it may have open; the least is "
            f"{least} (the session window + alpha)",
        )
    _check_count(file.nodes, file.engine, report)
    _check_primary_backup(file, report)
    _check_epaxos(file, settings, report)
    nodes = {index: node for index, node in enumerate(file.nodes) if node is not None}
    _check_different(nodes, folder, report)
    _check_addresses(nodes, report)


def resolved(folder: Path, path: str) -> Path:
    """`path` as an absolute path; a relative one starts at `folder`."""
    return Path(os.path.abspath(folder / path))


def _check_times(settings: Settings, report: Report) -> None:
    for place, value in (
        (("detector", "heartbeat"), settings.heartbeat_ms),
        (("detector", "delay"), settings.delay_ms),
        (("detector", "delta"), settings.delta_ms),
        (("timeouts", "phase1"), settings.phase1_ms),
        (("timeouts", "phase2"), settings.phase2_ms),
        (("timeouts", "catch_up"), settings.catch_up_ms),
        (("timeouts", "disk_slow"), settings.disk_slow_ms),
    ):
        if value < TIME_MS_MIN:
            report.error(place, f"{_time(value)} is too short; the least is {_time(TIME_MS_MIN)}, a tick of the engine")
    least = HEARTBEATS_PER_DELAY * settings.heartbeat_ms
    if settings.delay_ms < least and not report.is_wrong(("detector", "heartbeat")):
        report.error(
            ("detector", "delay"),
            f"{_time(settings.delay_ms)} is too short for a heartbeat of {_time(settings.heartbeat_ms)}; the least is "
            f"{_time(least)} ({HEARTBEATS_PER_DELAY} heartbeats)",
        )


def _time(milliseconds: int) -> str:
    return format_duration(Duration(milliseconds))


def _check_primary_backup(file: ClusterFile, report: Report) -> None:
    mode = file.primary_backup.mode
    if file.engine != "primary-backup":
        if mode != "safe":
            report.error(("primary_backup", "mode"), f"engine {file.engine} has no modes; this is for primary-backup")
        return
    if file.detector.policy is not None:
        report.error(
            ("detector", "policy"), "primary-backup has its own: the leader queue. Remove the key (see primary_backup)"
        )
    if mode == "no-partitions":
        report.warn(
            ("primary_backup", "mode"),
            "no majority is asked who is primary: when the network fails instead of a node there are two, and "
            "acknowledged commands are lost (docs/primary-backup.md)",
        )
    elif len(file.nodes) == 2:
        report.warn(
            ("nodes",),
            "of 2 nodes a majority is both: when one fails the other stops until it is back (docs/primary-backup.md)",
        )


def _check_epaxos(file: ClusterFile, settings: Settings, report: Report) -> None:
    if not isinstance(settings, EPaxosSettings):
        if file.epaxos != EPaxosSection():
            report.error(("epaxos",), f"engine {file.engine} is not told these; they are for epaxos")
        return
    if file.detector.policy is not None:
        report.error(("detector", "policy"), "epaxos has no leader, and so no policy for choosing one; remove the key")
    if file.profile == "lab":
        report.error(("profile",), "the lab is about Multi-Paxos: its rules say nothing about epaxos; remove the key")
    if file.alpha is not None:
        report.error(("alpha",), "epaxos has no window of slots; remove the key")
    for name, value in (
        ("answer", settings.answer_ms),
        ("recover", settings.recover_ms),
        ("hold", settings.hold_ms),
    ):
        if value < TIME_MS_MIN:
            report.error(
                ("epaxos", name),
                f"{_time(value)} is too short; the least is {_time(TIME_MS_MIN)}, a tick of the engine",
            )
    if settings.recover_ms < settings.answer_ms and not report.is_wrong(("epaxos", "answer")):
        report.error(
            ("epaxos", "recover"),
            f"{_time(settings.recover_ms)} is too short: an owner that repeats its question after "
            f"{_time(settings.answer_ms)} (answer) must get the chance to",
        )


def _check_count(nodes: list[NodeSection], engine: str, report: Report) -> None:
    count = len(nodes)
    if report.is_wrong(("nodes",)):
        return
    if count == 0:
        report.error(("nodes",), "there are no nodes; write 1, 3, 5, 7 or 9 of them (2F+1 nodes survive F failures)")
    elif count > NODES_MAX:
        report.error(("nodes",), f"{count} nodes are too many; the most is {NODES_MAX}")
    elif count % 2 == 0 and engine != "primary-backup":
        report.error(
            ("nodes",),
            f"{count} nodes survive no more failures than {count - 1}; write {count - 1} or {count + 1} of them "
            "(2F+1 nodes survive F failures)",
        )


def _check_different(nodes: dict[int, NodeSection], folder: Path, report: Report) -> None:
    ids: dict[int, int] = {}
    places: dict[tuple[str, int], str] = {}
    folders: dict[tuple[str, Path], int] = {}
    for index, node in nodes.items():
        if node.id in ids:
            report.error(("nodes", index, "id"), f"{node.id} is the id of nodes[{ids[node.id]}] too")
        ids.setdefault(node.id, index)
        for key, address in (("address", node.address), ("http", node.http)):
            if address is None:
                continue
            if address.place in places:
                report.error(("nodes", index, key), f'"{address}" is used by {places[address.place]} too')
            places.setdefault(address.place, f"nodes[{index}].{key}")
        # The same path on two machines is two directories.
        place = (node.address.place[0], resolved(folder, node.data_dir))
        if place in folders:
            report.error(("nodes", index, "data_dir"), f"{place[1]} is the directory of nodes[{folders[place]}] too")
        folders.setdefault(place, index)


def _check_addresses(nodes: dict[int, NodeSection], report: Report) -> None:
    loopback = {index: _is_loopback(node.address) for index, node in nodes.items()}
    for index, node in nodes.items():
        if node.address.is_wildcard:
            report.error(
                ("nodes", index, "address"),
                f'"{node.address}" is no address to connect to; write the one that the other nodes and clients use '
                "(--listen can listen on all)",
            )
        elif loopback[index] and not all(loopback.values()):
            report.warn(("nodes", index, "address"), f'"{node.address}" can be reached from its own machine only')


def _is_loopback(address: Address) -> bool:
    host = address.place[0]
    return host.startswith("127.") or host == "::1"
