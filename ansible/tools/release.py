"""Build what is installed on machines: our wheel, those of all it needs, and a list of their hashes, as one archive.

    python tools/release.py --target 3.11-x86_64 --out .build

Prints one JSON object, by target: where the archive is, the release's name (a digest of the wheels), the commands it
brings, and whether it was built anew. Nothing is built when neither the sources nor the list of requirements have
changed. Only the standard library is used: it runs with whatever Python Ansible runs with.
"""

import argparse
import configparser
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = REPOSITORY / "ansible" / "node-requirements.txt"
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "paxos_twisted", "client/paxos_twisted_client")
GLIBC = ("2_17", "2_24", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")
"""Versions that wheels are built for, up to the one of Debian 12 and Ubuntu 24.04."""


class BuildError(Exception):
    """The release cannot be built. The text is a sentence for people."""


def build(python: str, machine: str, out: Path, source: Path) -> dict[str, Any]:
    """Build the release of the tree `source` for one kind of machine. `python` is like "3.11".

    Raises:
        BuildError: there is no such tree, or pip failed.
    """
    folder = out / f"cp{python.replace('.', '')}-{machine}"
    stamp_file = folder / "release.json"
    if not (source / "pyproject.toml").is_file():
        raise BuildError(f"{source} is not a copy of this repository: it has no pyproject.toml")
    stamp = _digest(source)
    if stamp_file.exists():
        known: dict[str, Any] = json.loads(stamp_file.read_text())
        if known["stamp"] == stamp and "commands" in known and (folder / known["archive"]).exists():
            return {**known, "archive": str(folder / known["archive"]), "changed": False}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=folder) as name:
        wheels = Path(name) / "wheels"
        _pip("wheel", "--no-deps", "--wheel-dir", wheels, source)
        (ours,) = wheels.glob("*.whl")
        _download(python, machine, wheels)
        (pip,) = wheels.glob("pip-*.whl")
        commands = _commands(ours)
        release = _write_lock(wheels)
        archive = folder / f"{release}.tar.gz"
        _pack(wheels, archive)
    for old in folder.glob("*.tar.gz"):
        if old != archive:
            old.unlink()
    version = ours.name.split("-")[1]
    made: dict[str, Any] = {
        "stamp": stamp,
        "release": release,
        "version": version,
        "pip": pip.name,
        "archive": archive.name,
    }
    made |= {"commands": commands}
    stamp_file.write_text(json.dumps(made, indent=2) + "\n")
    return {**made, "archive": str(archive), "changed": True}


def _files(source: Path) -> Iterator[Path]:
    for name in SOURCES:
        path = source / name
        if path.is_file():
            yield path
        else:
            yield from (file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts)


def _digest(source: Path) -> str:
    digest = hashlib.sha256(REQUIREMENTS.read_bytes())
    for file in _files(source):
        if file.name != "dropin.cache":
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(source)}\0{content}\n".encode())
    return digest.hexdigest()


def _download(python: str, machine: str, wheels: Path) -> None:
    """Fetch wheels for the machine, which may be of another kind than this one."""
    digits = python.replace(".", "")
    platforms = [f"manylinux_{version}_{machine}" for version in GLIBC] + [f"manylinux2014_{machine}"]
    _pip(
        *("download", "--only-binary=:all:", "--no-deps", "--dest", wheels, "--requirement", REQUIREMENTS),
        *("--implementation", "cp", "--python-version", python, "--abi", f"cp{digits}", "--abi", "abi3"),
        *("--abi", "none"),
        *(word for platform in platforms for word in ("--platform", platform)),
    )


def _commands(wheel: Path) -> list[str]:
    """The commands that our wheel brings."""
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/entry_points.txt"))
        points = configparser.ConfigParser(delimiters=("=",))
        points.optionxform = str  # type: ignore[assignment,method-assign]
        points.read_string(packed.read(name).decode())
    return sorted(points["console_scripts"])


def _write_lock(wheels: Path) -> str:
    """Write the hashes of all wheels, for pip's --require-hashes. Returns the release's name."""
    lines = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    text = "".join(lines)
    (wheels / "requirements.lock").write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _pack(wheels: Path, archive: Path) -> None:
    """The same wheels give the same archive, byte for byte."""

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = 0
        entry.mode = 0o755 if entry.isdir() else 0o644
        return entry

    unfinished = archive.with_name(archive.name + ".new")
    with tarfile.open(unfinished, "w:gz", compresslevel=1) as tar:
        for file in sorted(wheels.iterdir()):
            tar.add(file, file.name, filter=anonymous)
    unfinished.replace(archive)


def _pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, words)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        if "No module named pip" in done.stderr:
            raise BuildError(f"{sys.executable} has no pip, which builds the wheels; type: apt-get install python3-pip")
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-8:]
        raise BuildError(f"{' '.join(command[2:5])} … failed: " + " | ".join(said))


def main() -> int:
    """Build, and print what was built."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--target",
        action="append",
        required=True,
        metavar="PYTHON-MACHINE",
        help="the machines' Python and processor, e.g. 3.11-x86_64, 3.13-aarch64; may be repeated",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", type=Path, default=REPOSITORY, help="build another tree than this one")
    options = parser.parse_args()
    try:
        made = {
            target: build(*target.split("-", 1), options.out.resolve(), options.source.resolve())
            for target in sorted(set(options.target))
        }
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
