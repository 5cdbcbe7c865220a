"""Writes down how the cluster is: before a crash test, and after it. Runs on the host that the load comes from.

    observe.py before FOLDER CONFIG     waits until nothing moves, then verify.json, status.json, metrics-*.txt
    observe.py after FOLDER CONFIG      the same; check.json: whether the clients' history is linearizable; events.json:
                                        what the nodes remember, with their clocks compared; cluster.yml

Prints one line, and ends with the exit code of `paxosctl verify`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("when", choices=["before", "after"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("config")
    parser.add_argument("--wait", default="60s")
    parser.add_argument("--check", action="store_true", help="judge the history too")
    options = parser.parse_args()
    folder: Path = options.folder / options.when
    folder.mkdir(parents=True, exist_ok=True)
    paxosctl = [str(Path(sys.executable).with_name("paxosctl"))]

    def ask(name: str, *words: str) -> int:
        with (folder / name).open("wb") as out, (folder / f"{name}.err").open("wb") as err:
            done = subprocess.run([*paxosctl, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False)
        if not (folder / f"{name}.err").stat().st_size:
            (folder / f"{name}.err").unlink()
        return done.returncode

    times = {"begun_ns": time.time_ns(), "begun_mono_ns": time.monotonic_ns()}
    code = ask("verify.json", "--config", options.config, "--output", "json", "verify", "--wait", options.wait)
    times["settled_ns"] = time.time_ns()
    if options.when == "after":  # when what happened, by the clock of this host; and with which settings
        ask("events.json", "--config", options.config, "--output", "json", "events")
        shutil.copy(options.config, options.folder / "cluster.yml")
    verdict = json.loads((folder / "verify.json").read_text() or "{}")
    for node in verdict.get("nodes", {}):
        ask(f"metrics-{node}.txt", "--config", options.config, "metrics", node)
    histories = sorted(str(path) for path in options.folder.glob("history*.jsonl"))
    if options.check and histories:
        ask("check.json", "check-history", *histories, "--start", "any", "--output", "json")
    (folder / "times.json").write_text(json.dumps(times))
    print(verdict.get("verdict", "unknown"))
    return code


if __name__ == "__main__":
    sys.exit(main())
