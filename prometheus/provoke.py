"""`python -m prometheus.provoke`: each alert is provoked for real, and seen in Alertmanager.

For each alert a local cluster of its own is started and scraped by a real Prometheus with the project's rules; then the
thing is done that the alert is there to tell, and Alertmanager is asked until it knows. Needed are prometheus and
prometheus-alertmanager; strace for PaxosFsyncSlow; root for PaxosDiskNearlyFull. An alert that cannot be provoked here
is left out, and why is said.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import yaml

from paxos_twisted.cluster.bench_run import PROGRAM
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.ctl.node_api import ask_all
from paxos_twisted.types import NodeId
from prometheus.alerts import ALERTS
from prometheus.recording import HEALTH, HEALTHY
from prometheus.servers import Alertmanager, MissingProgram, NotInTime, Prometheus, alertmanager, prometheus, until
from prometheus.targets import targets
from prometheus.thresholds import CLOCK_SKEW_S, DISK_FREE_BYTES, LAG_SLOTS

HEALTHY_S: Final = 60.0
FIRES_S: Final = 240.0
"""The longest hold is a minute, the longest window too, and a busy machine needs its time."""

HANDOVERS: Final = 7
SLOW_MS: Final = 150
SMALL_DISK: Final = "600m"


class CannotBe(Exception):
    """An alert cannot be provoked here. The text says why."""


class Stage:
    """A cluster, its load, and where Prometheus finds it."""

    def __init__(self, name: str, folder: Path, api: Prometheus) -> None:
        self.name = name.lower()
        self.prometheus = api
        self.cluster = LocalCluster.create(folder / self.name, f=1, name=self.name)

    def scrape(self, *, without: NodeId | None = None) -> None:
        """Let Prometheus scrape the nodes."""
        entries = yaml.safe_load(targets(self.cluster.config))
        kept = [entry for entry in entries if entry["labels"]["node"] != str(without)]
        self.prometheus.set_targets(f"paxosnode-{self.name}", yaml.safe_dump(kept))

    def forget(self) -> None:
        """Scrape nothing of this any more."""
        for kind in ("paxosnode", "machine"):
            self.prometheus.set_targets(f"{kind}-{self.name}", None)

    @property
    def leader(self) -> NodeId:
        """The node that leads."""
        return self.cluster.leader()

    @property
    def followers(self) -> list[NodeId]:
        """The others."""
        leader = self.leader
        return [node for node in self.cluster.members if node != leader]

    def pid(self, node: NodeId) -> int:
        """The process of a node."""
        process = self.cluster.process(node)
        assert process is not None
        return process.pid

    def fault(self, *rules: str) -> None:
        """Message faults on all nodes."""
        ask_all(self.cluster.apis.values(), lambda api: api.order("fault", {"rules": list(rules)}))

    @contextmanager
    def load(self, *words: str) -> Iterator[None]:
        """Clients that go on until the end."""
        command = [sys.executable, "-c", PROGRAM, "--config", str(self.cluster.config_path), "--bench"]
        command += ["--no-progress", "-n", "10000000", *words]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as bench:
            try:
                yield
            finally:
                bench.kill()


Act = Callable[[Stage], AbstractContextManager[None]]


class Provocation(NamedTuple):
    """How an alert is provoked."""

    how: str
    """A sentence for the documentation."""
    act: Act
    """Does it on entry, and undoes it on exit as far as that is possible."""
    load: Sequence[str] = ()
    """Words of the bench that runs meanwhile; none: no bench."""
    before: Act | None = None
    """What is done before the cluster is started."""


@contextmanager
def _no_leader(stage: Stage) -> Iterator[None]:
    stage.fault("*->* partition")
    yield
    stage.fault()


@contextmanager
def _quorum_lost(stage: Stage) -> Iterator[None]:
    stage.cluster.kill(stage.leader, stage.followers[0])
    yield


@contextmanager
def _node_down(stage: Stage) -> Iterator[None]:
    stage.cluster.kill(stage.followers[0])
    yield


@contextmanager
def _flapping(stage: Stage) -> Iterator[None]:
    for _ in range(HANDOVERS):
        before = stage.leader
        stage.cluster.apis[before].order("handover", {})
        stage.cluster.leader(other_than=before)
        time.sleep(1.2)  # Prometheus sees each change only if it scrapes between two
    yield


@contextmanager
def _stalled(stage: Stage) -> Iterator[None]:
    stage.fault("*->* kinds=Accept,Learn loss=1")
    yield
    stage.fault()


@contextmanager
def _slow_clients(stage: Stage) -> Iterator[None]:
    stage.fault(f"*->* delay={SLOW_MS}ms")
    yield
    stage.fault()


@contextmanager
def _slow_disk(stage: Stage) -> Iterator[None]:
    strace = shutil.which("strace")
    if strace is None:
        raise CannotBe("strace is not installed (Debian: apt-get install strace)")
    command = [strace, "-f", "-qq", "-e", "trace=fdatasync,fsync", "-o", "/dev/null"]
    command += ["-e", f"inject=fdatasync,fsync:delay_exit={SLOW_MS}000", "-p", str(stage.pid(stage.followers[0]))]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            time.sleep(1)
            if process.poll() is not None:
                assert process.stderr is not None
                raise CannotBe(f"strace cannot attach: {process.stderr.read().decode().strip()}")
            yield
        finally:
            process.terminate()


@contextmanager
def _blocked(stage: Stage) -> Iterator[None]:
    pid = stage.pid(stage.followers[0])
    over = threading.Event()

    def blink() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait(0.3)
            os.kill(pid, signal.SIGCONT)
            over.wait(0.2)

    thread = threading.Thread(target=blink, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _lagging(stage: Stage) -> Iterator[None]:
    node = stage.followers[0]
    stage.fault(f"*->{node} kinds=Accept,Learn,CatchUpReply,SnapshotOffer,SnapshotData loss=1")
    with stage.load("--clients", "8", "--outstanding", "256"):
        lag = f'node:paxos_applied_slot:lag{{cluster="{stage.name}"}} > {LAG_SLOTS * 1.2:.0f}'
        stage.prometheus.wait(lag, FIRES_S)
    yield
    stage.fault()


BUGGY: Final = """
import sys
from paxos_twisted.apps.bank import Bank
right = Bank.apply
def twice(self, op, client):
    right(self, op, client)
    return right(self, op, client)
Bank.apply = twice
from paxos_twisted.node.options import main
sys.argv[0] = "paxosnode"
main()
"""
"""A node that books everything twice."""


@contextmanager
def _diverged(stage: Stage) -> Iterator[None]:
    node = stage.followers[0]
    stage.cluster.stop(node)
    command = [sys.executable, "-c", BUGGY, "--config", str(stage.cluster.config_path), "--node-id", str(node)]
    with (
        stage.cluster.log(node).open("ab") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            until(lambda: stage.cluster.apis[node].not_ready() is None, HEALTHY_S, "the buggy node is ready")
            one = [sys.executable, "-c", PROGRAM, "--config", str(stage.cluster.config_path), "deposit", "7", "100"]
            subprocess.run(one, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
            yield
        finally:
            process.kill()


@contextmanager
def _small_disk(stage: Stage) -> Iterator[None]:
    """A disk of its own for node 2, that is too small."""
    if os.geteuid() != 0:
        raise CannotBe("only root may mount a small disk")
    folder = stage.cluster.config.node(2).data_dir
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotBe(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield
    finally:
        stage.cluster.kill_all()
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def _nothing(stage: Stage) -> Iterator[None]:
    yield


@contextmanager
def _skewed(stage: Stage) -> Iterator[None]:
    """Machines' exporters of which one is ahead. Nobody sets a clock here: all nodes share this machine's."""
    with ExitStack() as stack:
        entries = []
        for node in stage.cluster.members:
            ahead_s = 4 * CLOCK_SKEW_S if node == 2 else 0.0
            port = stack.enter_context(_exporter(ahead_s))
            labels = {"cluster": stage.name, "node": str(node)}
            entries.append({"targets": [f"127.0.0.1:{port}"], "labels": labels})
        stage.prometheus.set_targets(f"machine-{stage.name}", yaml.safe_dump(entries))
        yield


@contextmanager
def _exporter(ahead_s: float) -> Iterator[int]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"# TYPE node_time_seconds gauge\nnode_time_seconds {time.time() + ahead_s:.6f}\n".encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def _unwatched(stage: Stage) -> Iterator[None]:
    stage.scrape(without=stage.followers[0])
    yield


STEADY: Final = ("--clients", "4", "--rate", "40")

PROVOCATIONS: Final[Mapping[str, Provocation]] = {
    "PaxosNoLeader": Provocation("all messages between nodes are lost (`paxosctl fault`)", _no_leader),
    "PaxosQuorumLost": Provocation("two of three nodes are killed", _quorum_lost),
    "PaxosNodeDown": Provocation("a follower is killed", _node_down),
    "PaxosLeaderFlapping": Provocation(f"leadership is handed over {HANDOVERS} times", _flapping),
    "PaxosCommitStalled": Provocation("votes are lost, heartbeats are not; clients go on asking", _stalled, STEADY),
    "PaxosClientLatencyHigh": Provocation(f"each message between nodes takes {SLOW_MS} ms", _slow_clients, STEADY),
    "PaxosFsyncSlow": Provocation(
        f"each `fdatasync` of a follower takes {SLOW_MS} ms (`strace -e inject`)", _slow_disk, STEADY
    ),
    "PaxosReactorBlocked": Provocation("a follower is stopped for 0.3 s, twice a second", _blocked),
    "PaxosReplicaLagging": Provocation(
        f"a follower gets no votes and no catch-up while {LAG_SLOTS * 12 // 10:,} commands are decided", _lagging
    ),
    "PaxosStateDiverged": Provocation("one node is a build with a bug: it books everything twice", _diverged),
    "PaxosDiskNearlyFull": Provocation(
        f"a node's disk is a tmpfs of {SMALL_DISK.upper()}B; the line is at {DISK_FREE_BYTES >> 20} MiB",
        _nothing,
        before=_small_disk,
    ),
    "PaxosClockSkew": Provocation(
        f"one of three exporters of machines says a time {4 * CLOCK_SKEW_S:g} s ahead; nobody's clock is set", _skewed
    ),
    "PaxosMetricsMissing": Provocation("a node is taken from the targets", _unwatched),
}
"""For each alert."""


class Outcome(NamedTuple):
    """What came of one provocation."""

    alert: str
    seconds: float | None
    """From the provocation until Alertmanager knew; None: it never did."""
    text: str
    """The summary, as Alertmanager shows it; or what went wrong."""
    skipped: bool = False


def provoke(name: str, folder: Path, api: Prometheus, manager: Alertmanager) -> Outcome:
    """Provoke one alert, and wait until Alertmanager knows."""
    provocation = PROVOCATIONS[name]
    stage = Stage(name, folder, api)

    def seen() -> dict[str, Any] | None:
        wanted = {"alertname": name, "cluster": stage.name}
        return next((alert for alert in manager.alerts() if wanted.items() <= alert["labels"].items()), None)

    with stage.cluster, ExitStack() as stack:
        try:
            if provocation.before is not None:
                stack.enter_context(provocation.before(stage))
            stage.cluster.start()
            stage.cluster.wait_ready()
            stage.scrape()
            api.wait(f'{HEALTH}{{cluster="{stage.name}"}} == {HEALTHY}', HEALTHY_S)
            if provocation.load:
                stack.enter_context(stage.load(*provocation.load))
                answered = f'sum(rate(paxos_client_requests_total{{cluster="{stage.name}", outcome="ok"}}[5s])) > 0'
                api.wait(answered, HEALTHY_S)
            if provocation.before is None and seen() is not None:
                return Outcome(name, None, "it fired before it was provoked")
            started = time.monotonic()
            stack.enter_context(provocation.act(stage))
            until(lambda: seen() is not None, FIRES_S, f"{name} is in Alertmanager")
            found = seen()
            assert found is not None
            return Outcome(name, time.monotonic() - started, found["annotations"]["summary"])
        except CannotBe as reason:
            return Outcome(name, None, str(reason), skipped=True)
        except (NotInTime, OSError) as error:
            return Outcome(name, None, str(error))
        finally:
            stage.forget()


def provoke_all(names: Sequence[str], *, hold: str | None = None, at_once: int = 2) -> Iterator[Outcome]:
    """Provoke alerts, some at the same time, each on a cluster of its own.

    Raises:
        MissingProgram: Prometheus or Alertmanager is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="paxos-alerts-") as name, ExitStack() as stack:
        folder = Path(name)
        for part in ("prometheus", "alertmanager", "clusters"):
            (folder / part).mkdir()
        manager = stack.enter_context(alertmanager(folder / "alertmanager"))
        where = manager.address.removeprefix("http://")
        known = {"alertmanager": f'- targets: ["{where}"]\n'}
        api = stack.enter_context(prometheus(folder / "prometheus", known, hold))
        # The nodes must die with the thread that started them; one that waits in a pool lives as long as the pool.
        pool = stack.enter_context(ThreadPoolExecutor(at_once))
        yield from pool.map(lambda one: provoke(one, folder / "clusters", api, manager), names)


@click.command()
@click.argument("names", nargs=-1, metavar="[ALERT] …")
@click.option("--hold", help="Let alerts fire after so long instead of what the rules say, e.g. 2s.")
@click.option("--at-once", type=click.IntRange(1, 13), default=2, show_default=True, help="Clusters at the same time.")
def main(names: tuple[str, ...], hold: str | None, at_once: int) -> None:
    """Provoke alerts (all, if none is named) for real, and see them in Alertmanager.

    Exit codes: 0 all were seen, 1 one was not, 4 one could not be provoked here.
    """
    if unknown := [name for name in names if name not in PROVOCATIONS]:
        raise click.UsageError(f"There is no {', '.join(unknown)}; there are {', '.join(PROVOCATIONS)}.")
    order = [alert.name for alert in ALERTS if alert.name in (names or PROVOCATIONS)]
    outcomes = []
    try:
        for outcome in provoke_all(order, hold=hold, at_once=at_once):
            outcomes.append(outcome)
            mark = "–" if outcome.skipped else "✗" if outcome.seconds is None else "✓"
            took = "" if outcome.seconds is None else f"{outcome.seconds:6.1f} s"
            click.echo(f"{mark} {outcome.alert:<24}{took:<10} {outcome.text}")
    except MissingProgram as missing:
        click.echo(str(missing), err=True)
        sys.exit(4)
    failed = [outcome for outcome in outcomes if outcome.seconds is None and not outcome.skipped]
    sys.exit(1 if failed else 4 if any(outcome.skipped for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
