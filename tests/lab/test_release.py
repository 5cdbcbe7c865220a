"""What is installed on machines: a complete list of pinned packages."""

import re
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_inventory_checks import ANSIBLE, load

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "ansible" / "node-requirements.txt").read_text().splitlines()
PINS = dict(line.split("==") for line in LINES if line and not line.startswith("#"))
PINNED = {canonicalize_name(name): version for name, version in PINS.items()}


def test_every_line_is_one_exact_version() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in PINS.values())


def test_pins_satisfy_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"]:
        wanted = Requirement(text)
        version = PINNED[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{wanted} but {version} is pinned"


def test_nothing_that_a_pinned_package_needs_is_missing() -> None:
    """As the packages of this environment say it."""
    missing = set()
    for name in PINNED.keys() - {"pip"}:
        for text in requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(wanted.name)
                if needed not in PINNED:
                    missing.add(f"{name} needs {needed}")
    assert missing == set()


def test_the_commands_of_a_release_are_those_of_its_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "ours.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        points = "[console_scripts]\npaxosnode = a.b:main\nbankclient = c:main\n\n[other]\nx = y:z\n"
        packed.writestr("ours-1.dist-info/entry_points.txt", points)
    assert load(ANSIBLE / "tools" / "release.py")._commands(wheel) == ["bankclient", "paxosnode"]
