"""Running our programs as people do, and clusters for several tests."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

MODULES = {
    "paxoscluster": "paxos_twisted.cluster.main",
    "paxosctl": "paxos_twisted.ctl.main",
    "bankclient": "paxos_twisted_client.bankclient",
}

PATIENCE_S = 240.0
"""For one command on a busy machine."""


def start(
    program: str, *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start one of our programs with pipes, as its console script would. `env` is added to the environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PAXOS_") or "TEST" in name}
    return subprocess.Popen(
        [sys.executable, "-c", f"from {MODULES[program]} import main; main()", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean | {"COLUMNS": "120"} | dict(env or {}),
        cwd=cwd,
    )


def run(
    program: str, *words: object, text: str = "", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run one of our programs to its end. `text` goes to its stdin."""
    process = start(program, *words, cwd=cwd, env=env)
    try:
        out, err = process.communicate(text, timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def succeed(
    program: str, *words: object, text: str = "", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run one of our programs, which must end with exit code 0, and return what it printed on stdout."""
    done = run(program, *words, text=text, cwd=cwd, env=env)
    assert done.returncode == 0, f"{program} {words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
