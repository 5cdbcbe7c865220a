"""Copies of the programs with one safety rule switched off: they are broken, say so, and are nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_inventory_checks import ANSIBLE, load

import paxos_twisted.sim.mutants  # noqa: F401 - fills the table
from paxos_twisted.sim.mutation import MUTANTS

seeded = load(ANSIBLE / "tools" / "seeded_bug.py")
release = load(ANSIBLE / "tools" / "release.py")


def test_all_rules_of_the_simulator_can_be_switched_off() -> None:
    assert seeded.rules(seeded.REPOSITORY) == {name: one.rule for name, one in MUTANTS.items()}
    assert seeded.SOURCES == release.SOURCES


def test_the_copy_is_broken_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "broken"
    version = seeded.seed("no-session-table", out)
    assert version.endswith("+without.no.session.table")
    code = (
        "import paxos_twisted, paxos_twisted.node.options\n"
        "from paxos_twisted.core.sessions import Sessions\n"
        "print(paxos_twisted.__version__, Sessions.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=out,
        env={"PYTHONPATH": f"{out}:{out / 'client'}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [version, "paxos_twisted.core.sessions"]
    assert "THIS NODE IS BROKEN ON PURPOSE: no-session-table" in done.stderr


def test_the_shipped_programs_have_no_such_switch() -> None:
    for path in (seeded.REPOSITORY / "paxos_twisted").rglob("*.py"):
        if "sim" not in path.relative_to(seeded.REPOSITORY).parts:
            assert "sim.mutants" not in path.read_text(), path


def test_what_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(seeded.SeedError, match=r"there is no rule 'gravity'; there are .*no-session-table"):
        seeded.seed("gravity", tmp_path / "broken")
    (tmp_path / "precious").write_text("")
    with pytest.raises(seeded.SeedError, match="is not a copy that this tool has made"):
        seeded.seed("no-session-table", tmp_path)
    assert (tmp_path / "precious").exists()
