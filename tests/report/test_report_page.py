"""The report as files: from histories and events to phases, text, plots and a page that needs nothing else."""

import io
import json
import re
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from paxos_twisted.anatomy.facts import Event, Fault
from paxos_twisted.anatomy.sources import calls_of_history
from paxos_twisted.anatomy.split import NAMES, PHASES
from paxos_twisted.report import main
from paxos_twisted.report.evidence import cover, dissect, lanes_of
from paxos_twisted.report.model import DOWN, Answer, Scenario, Span

MS = 1_000_000
UNIX = 1_700_000_000_000 * MS
"""Wall clock at monotonic 0."""
NODE_CLOCK_AHEAD = 40 * MS

ABOUT = {
    "name": "leader-killed",
    "title": "The leader's process is killed <at once>",
    "fault": "kill",
    "target": "leader",
    "changes": [1, 1],
    "gap_ms": 150,
    "load": {"clients": 1, "requests": 100},
    "profile": "default",
    "cluster": "lab",
    "load_host": "monitor",
    "detector_delay": "800ms",
    "versions": {"ansible": "2.19.14"},
    "nodes": [{"host": f"node{node}", "id": node, "address": f"10.0.0.{node}:7101"} for node in (1, 2, 3)],
}


def history() -> str:
    """An answer each 10 ms, 2 ms after its request; the leader dies at 503 and is replaced at 560."""
    lines: list[dict[str, Any]] = []
    at = 0
    for seq in range(1, 101):
        who = {"process": 0, "client": 7, "seq": seq, "op": {"kind": "balance", "account": 1, "amount": 0}}
        lines.append({"type": "invoke", "time": at * MS, **who})
        answer: dict[str, Any] = {"type": "ok", "time": (at + 2) * MS, **who, "result": {}}
        if at == 500 + 10:
            steps = [[512 * MS, "left", "10.0.0.3:7101", "closed"], [512 * MS, "dial", "10.0.0.2:7101", ""]]
            steps += [[514 * MS, "welcome", "10.0.0.2:7101", ""]]
            answer |= {"time": 565 * MS, "sent": 514 * MS, "steps": steps}
            at = 565
        lines.append(answer)
        at += 10
    return "".join(json.dumps(line) + "\n" for line in lines)


def event(ms: int, name: str, **more: Any) -> dict[str, Any]:
    return {"time_ns": UNIX + ms * MS + NODE_CLOCK_AHEAD, "event": name, **more}


def collected() -> dict[str, Any]:
    clock = {"offset_ns": NODE_CLOCK_AHEAD, "uncertainty_ns": MS // 2}
    two = [
        event(-9000, "leader", peer=3, rnd=1003, cause="round"),
        event(515, "link_lost", peer=3),
        event(516, "link_refused", peer=3),
        event(516, "leader", peer=-1, cause="suspect"),
        event(520, "campaign"),
        event(523, "phase1", rnd=2002),
        event(540, "promised", rnd=2002),
        event(540, "leader", peer=2, rnd=2002, cause="round"),
        event(560, "filled", rnd=2002),
    ]
    one = [event(-9000, "leader", peer=3, rnd=1003), event(541, "leader", peer=2, rnd=2002)]
    nodes = {"1": {"clock": clock, "events": one}, "2": {"clock": clock, "events": two}}
    return {"host": "monitor", "unix_ns": UNIX + 2000 * MS, "monotonic_ns": 2000 * MS, "nodes": nodes, "errors": {}}


def bench() -> dict[str, Any]:
    rtt = {"count": 100, "mean": 2.5, "min": 2.0, "max": 55.0, "median": 2.0, "stdev": 5.0, "p99": 55.0}
    gap = {"ms": 55.0, "process": 0, "start_ns": 510 * MS, "timeout_share": 0.0}
    together = {"answered": 100, "refused": 0, "unknown": 0, "longest_gap": gap}
    return {"clients": [{"process": 0, "longest_gap_ms": 55.0, "rtt_ms": rtt}], "together": together}


def status(node: int, slots: int, changes: int) -> dict[str, Any]:
    counts = {"applied": slots, "noops": 0, "duplicates": 0, "from_snapshot": 0}
    return {
        "node": node, "pid": node, "uptime_s": float(slots), "role": "leader" if node == 2 else "follower", "leader": 3,
        "round": 2002, "applied": slots - 1, "leader_changes": changes, "commands": counts,
    }  # fmt: skip


def verify(slots: int, changes: int) -> dict[str, Any]:
    checks = [{"name": "same state", "verdict": "ok", "text": "hash abc"}]
    return {"verdict": "ok", "checks": checks, "nodes": {str(n): status(n, slots, changes) for n in (1, 2)}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "20260101T000000Z-lab"
    scenario = folder / "leader-killed"
    scenario.mkdir(parents=True)
    (scenario / "scenario.json").write_text(json.dumps(ABOUT))
    (folder / "run.json").write_text(json.dumps({"inventory": "lab", "machines": {"node1": {"os": "Debian 12"}}}))
    struck = {"host": "node3", "state": "healed", "healing_ns": UNIX + 900 * MS}
    struck |= {"striking_ns": UNIX + 505 * MS, "struck_ns": UNIX + 525 * MS}
    files: dict[str, dict[str, Any]] = {
        "monitor": {
            "history.jsonl": history(),
            "bench.json": bench(),
            "trigger.jsonl": {"nodes": ["node3"], "heard": True, "asked_ns": UNIX + 503 * MS},
            "before/verify.json": verify(0, 1),
            "after/verify.json": verify(100, 2),
            "after/check.json": {"verdict": "ok", "operations": 100, "clients": 1, "explanation": []},
            "after/events.json": collected(),
            "after/metrics-1.txt": 'paxos_build_info{version="9.9",python="3.11.2",twisted="26.10.0"} 1.0\n',
            "cluster.yml": "cluster: lab\n# <settings>\n",
        },
        "node3": {"fault.json": struck},
    }
    for host, contents in files.items():
        with tarfile.open(scenario / f"{host}.tar.gz", "w:gz") as tar:
            for name, value in contents.items():
                data = (value if isinstance(value, str) else json.dumps(value)).encode()
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    main.write(main.read(folder), folder)
    return folder


@pytest.fixture(scope="module")
def told(run: Path) -> dict[str, Any]:
    (scenario,) = json.loads((run / "report.json").read_text())["scenarios"]
    assert isinstance(scenario, dict)
    return scenario


def test_the_wait_is_split_by_events_of_machines_with_other_clocks(told: dict[str, Any]) -> None:
    (anatomy,) = told["anatomies"]
    assert told["verdict"] == "ok", told["checks"]
    assert anatomy["gap_ms"] == 55.0
    assert anatomy["phases_ms"] == {
        "detect": 6.0, "elect": 7.0, "phase1": 17.0, "fill": 20.0, "client_timeout": 0.0, "reconnect": 0.0,
        "first_commit": 5.0,
    }  # fmt: skip
    assert anatomy["uncertainty_ms"] == 0.5
    assert abs(sum(anatomy["phases_ms"].values()) - anatomy["gap_ms"]) <= max(5.0, 0.02 * anatomy["gap_ms"])


def test_lanes_say_whom_each_node_followed(told: dict[str, Any]) -> None:
    lanes = {node: [span["leader"] for span in spans] for node, spans in told["leader_timeline"].items()}
    assert lanes == {"1": [3, 2], "2": [3, -1, 2], "3": [DOWN]}


def test_the_text_has_phases_and_facts(run: Path) -> None:
    text = (run / "report.md").read_text()
    assert "| 55.0 ms | 6.0 | 7.0 | 17.0 | 20.0 | 0.0 | 0.0 | 5.0 | 0.0 | 7% |" in text
    assert "| paxos-twisted | 9.9 |" in text
    assert "| node1 | os Debian 12 |" in text
    assert "cluster: lab" in text


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else(run: Path) -> None:
    """No script, no picture, no font, no style from anywhere: it opens from disk. Its tags are well nested."""
    page = _Page()
    page.feed((run / "index.html").read_text("utf-8"))
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object"})
    links = [attrs.get("href") or "" for tag, attrs in page.tags if tag == "a"]
    assert links
    assert all(link.startswith("#") or (run / link).exists() for link in links)
    assert "url(http" not in (run / "index.html").read_text("utf-8")


def test_what_comes_from_outside_is_escaped(run: Path) -> None:
    page = (run / "index.html").read_text("utf-8")
    assert "&lt;at once&gt;" in page and "<at once>" not in page
    assert "&lt;settings&gt;" in page


def test_pictures_are_well_formed_and_name_the_phases(run: Path) -> None:
    pictures = re.findall(r"<svg.*?</svg>", (run / "index.html").read_text("utf-8"), re.DOTALL)
    assert len(pictures) == 3
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert NAMES["fill"] in pictures[0]
    assert "waits 55.0 ms" in pictures[0]
    for phase in PHASES:
        assert NAMES[phase] in (run / "index.html").read_text("utf-8")


def test_a_report_without_matplotlib_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paxos_twisted.report.page._plots", lambda: None)
    text = main.page(main.read(run))
    assert "<svg" not in text
    assert "paxos-twisted[report]" in text


def test_thinning_keeps_the_slowest_answers() -> None:
    plots = pytest.importorskip("paxos_twisted.report.plots", reason="matplotlib is not installed")
    answers = [Answer(at / 1000, 500.0 if at == 4711 else 1.0 + at % 7 / 10, "1") for at in range(20_000)]
    kept = plots.thinned(answers, 400)
    assert len(kept) <= 410
    assert max(answer.rtt_ms for answer in kept) == 500.0


def test_a_lane_is_covered_while_its_node_is_dead() -> None:
    lane = [Span(0.0, 4.0, 1), Span(4.0, 9.0, 2)]
    assert cover(lane, 3.0, 5.0, DOWN) == [Span(0.0, 3.0, 1), Span(3.0, 5.0, DOWN), Span(5.0, 9.0, 2)]
    assert cover(lane, 8.0, float("inf"), DOWN)[-1] == Span(8.0, 9.0, DOWN)


def test_a_lane_begins_where_something_is_known() -> None:
    events = [Event(2_000_000_000, 1, "leader", 3), Event(4_000_000_000, 1, "started")]
    assert lanes_of(events, [1], 0.0, 6.0, 0) == {"1": [Span(2.0, 4.0, 3), Span(4.0, 6.0, -1)]}
    assert lanes_of(events, [1], 0.0, 3.0, 0, {1: 2}) == {"1": [Span(0.0, 2.0, 2), Span(2.0, 3.0, 3)]}


def test_a_slow_request_later_on_is_not_taken_for_the_failover() -> None:
    def call(seq: int, start: int, stop: int) -> list[str]:
        who = {"process": 0, "client": 7, "seq": seq}
        lines = [{"type": "invoke", "time": start * MS, **who}, {"type": "ok", "time": stop * MS, **who}]
        return [json.dumps(line) for line in lines]

    calls = calls_of_history([*call(1, 0, 40), *call(2, 40, 42), *call(3, 900, 990)])
    events = [
        Event(10 * MS, 2, "leader", -1, cause="suspect"),
        Event(12 * MS, 2, "phase1"),
        Event(30 * MS, 2, "leader", 2),
    ]
    found = Scenario("leader-killed", "")
    dissect(found, [Fault(1 * MS, 2 * MS, frozenset({3}))], calls, events, 0, {})
    assert [anatomy.gap_ms for anatomy in found.anatomies] == [40.0]
