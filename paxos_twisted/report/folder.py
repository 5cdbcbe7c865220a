"""The files that a scenario of ansible/failover_test.yml leaves: its own, and those in the archives of the hosts."""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Folder:
    """The files of one scenario."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about: dict[str, Any] = json.loads((path / "scenario.json").read_text())
        self.hosts: dict[str, dict[str, bytes]] = {}
        for archive in sorted(path.glob("*.tar.gz")):
            with tarfile.open(archive) as tar:
                self.hosts[archive.name.removesuffix(".tar.gz")] = {
                    member.name.removeprefix("./"): content.read()
                    for member in tar.getmembers()
                    if member.isfile() and (content := tar.extractfile(member)) is not None
                }

    def text(self, host: str, name: str) -> str:
        """A file of a host; empty when there is none."""
        return self.hosts.get(host, {}).get(name, b"").decode("utf-8", "replace")

    def json(self, host: str, name: str) -> Any:
        """A JSON file of a host; {} when there is none, or it is no JSON."""
        return parsed(self.text(host, name))

    def lines(self, host: str, name: str) -> list[Any]:
        """JSON lines of a host."""
        return [value for line in self.text(host, name).splitlines() if (value := parsed(line))]

    def log(self, host: str) -> list[dict[str, Any]]:
        """What the node on a host has logged."""
        messages = [line.get("MESSAGE") for line in self.lines(host, "journal.jsonl")]
        texts = [text for text in messages if isinstance(text, str) and text.startswith("{")]
        return [line for text in texts if isinstance(line := parsed(text), dict) and line]

    def benches(self) -> dict[str, Any]:
        """What the load has measured, by host."""
        return {name: bench for name in sorted(self.hosts) if (bench := self.json(name, "bench.json"))}

    def faults(self) -> list[dict[str, Any]]:
        """What agents have written."""
        found = [record for host in self.hosts if (record := self.json(host, "fault.json"))]
        return found + [parsed(path.read_text()) for path in self.path.glob("fault-controller.json")]

    def failures(self) -> list[dict[str, Any]]:
        """Tasks of the playbook that failed."""
        return [parsed(path.read_text()) for path in sorted(self.path.glob("failed-*.json"))]


def parsed(text: str) -> Any:
    """The value of a JSON text; {} when it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


def answered_nodes(verify: Mapping[str, Any]) -> dict[str, Any]:
    """The statuses of the nodes that answered."""
    return {node: status for node, status in verify.get("nodes", {}).items() if "error" not in status}


def milliseconds(text: str) -> float:
    """A duration of cluster.yml."""
    for unit, factor in (("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(f"{text!r} has no unit")
