"""The wheel: it installs into a clean environment with its commands and its plugin, also where it cannot write."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.integration


def run(command: Sequence[object], cwd: Path) -> str:
    """Run a command outside the repository and return what it printed; a failing one fails the test."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PAXOS_"))}
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `make wheel` does."""
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, str(ROOT)], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh environment with the wheel in it. The libraries are borrowed from the environment of the tests."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", home], home.parent)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", home / "bin" / "python", "install"]
    run([*pip, "--quiet", "--no-deps", "--no-index", wheel], home.parent)
    # Only now, so that pip saw an empty environment. Folders named in a .pth file come last on the path, and .pth files
    # in them are not read: the editable install of the tests' environment stays invisible.
    (packages_of(home) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield home
    shutil.rmtree(home)


def packages_of(home: Path) -> Path:
    """The folder of installed packages of a virtual environment."""
    (packages,) = home.glob("lib/python3*/site-packages")
    return packages


def test_wheel_holds_both_packages_the_plugin_and_the_licence_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = f"paxos_twisted-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {"paxos_twisted", "paxos_twisted_client", "twisted", info}
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/paxosnode_plugin.py"]
    assert {"paxos_twisted/py.typed", "paxos_twisted_client/py.typed", f"{info}/licenses/LICENSE"} <= set(names)
    assert not [name for name in names if "plugin/" in name or "__pycache__" in name or "dropin" in name]


def test_installed_package_is_the_one_from_the_wheel(installed: Path) -> None:
    where = run([installed / "bin" / "python", "-c", "import paxos_twisted as p; print(p.__file__)"], installed)
    assert Path(where.strip()).is_relative_to(installed)


@pytest.mark.parametrize("script", sorted(PROJECT["scripts"]))
def test_console_script_starts(installed: Path, script: str) -> None:
    assert script in run([installed / "bin" / script, "--help"], installed)


@pytest.mark.parametrize("script", sorted(PROJECT["scripts"]))
def test_console_script_tells_its_version(installed: Path, script: str) -> None:
    assert PROJECT["version"] in run([installed / "bin" / script, "--version"], installed)


def twistd(home: Path, *arguments: str) -> list[str | Path]:
    """`twistd` as the environment's own interpreter runs it (the borrowed script belongs to another one)."""
    return [home / "bin" / "python", "-c", "from twisted.scripts.twistd import run; run()", *arguments]


def test_twistd_lists_the_node(installed: Path) -> None:
    assert "paxosnode" in run(twistd(installed, "--help"), installed)


def test_twistd_shows_the_options_of_the_node(installed: Path) -> None:
    assert "--config" in run(twistd(installed, "-n", "paxosnode", "--help"), installed)


def without_root_power(command: Sequence[str | Path]) -> list[str | Path]:
    """The command, for which file permissions count even when root runs it."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", "--", *command]


def test_read_only_install_works_although_twisted_cannot_write_its_plugin_cache(  # [CV-39]
    installed: Path, tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    shutil.copytree(installed, home, symlinks=True)
    for cache in home.rglob("dropin.cache"):
        cache.unlink()
    run(["chmod", "-R", "a-w", home], tmp_path)
    try:
        probe = without_root_power(["touch", packages_of(home) / "twisted" / "plugins" / "probe"])
        assert subprocess.run(probe, capture_output=True, check=False).returncode != 0, "the install is not read-only"
        assert "paxosnode" in run(without_root_power(twistd(home, "--help")), tmp_path)
        assert "--config" in run(without_root_power(twistd(home, "-n", "paxosnode", "--help")), tmp_path)
        assert not list(home.rglob("dropin.cache"))
    finally:
        run(["chmod", "-R", "u+w", home], tmp_path)
