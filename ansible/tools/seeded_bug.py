"""Make a copy of the programs in which one safety rule is switched off, to see whether the crash tests notice.

    python tools/seeded_bug.py no-session-table --out /tmp/broken
    ansible-playbook deploy.yml -e cluster_source=/tmp/broken
    ansible-playbook failover_test.yml          must fail, and say what was violated

The rules, and how each is switched off, are those of `paxossim mutants`. The shipped programs have no such switch: the
copy is a tree of its own, whose version says what it is (0.1.0+without.no.session.table). Standard library only.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "paxos_twisted", "client/paxos_twisted_client")
"""What a wheel is built from (see release.py)."""
PACKAGE = Path("paxos_twisted/__init__.py")
ENTRY = Path("paxos_twisted/node/options.py")
"""What every node imports first, and nothing else does."""
SEED = """

# Seeded on purpose by ansible/tools/seeded_bug.py: this copy must fail its crash tests. Not part of the product.
import paxos_twisted.sim.mutants
from paxos_twisted.sim.mutation import MUTANTS

MUTANTS[{rule!r}].patch(setattr)
print("THIS NODE IS BROKEN ON PURPOSE: {rule} ({sentence})", file=sys.stderr, flush=True)
"""


class SeedError(Exception):
    """The copy cannot be made. The text is a sentence for people."""


def rules(source: Path) -> dict[str, str]:
    """The rules that can be switched off, with what each says. Read from the text: nothing of it is imported.

    Raises:
        SeedError: this tree has none.
    """
    found: dict[str, str] = {}
    for path in sorted((source / "paxos_twisted/sim/mutants").glob("*.py")):
        found.update(re.findall(r'^@\w+\(\s*"([^"]+)",\s*"([^"]+)"', path.read_text(), re.MULTILINE))
    if not found:
        raise SeedError(f"{source} has no rules to switch off in paxos_twisted/sim/mutants")
    return found


def seed(rule: str, out: Path, source: Path = REPOSITORY) -> str:
    """Make the copy. Returns its version.

    Raises:
        SeedError: there is no such rule, or `out` is there and is no such copy.
    """
    known = rules(source)
    if rule not in known:
        raise SeedError(f"there is no rule {rule!r}; there are {', '.join(sorted(known))}")
    if out.exists() and not (out / ".seeded-bug").exists():
        raise SeedError(f"{out} is there, and is not a copy that this tool has made; name another folder")
    shutil.rmtree(out, ignore_errors=True)
    for name in SOURCES:
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, place, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy2(source / name, place)
    (out / ".seeded-bug").write_text(f"{rule}\n")
    package = (out / PACKAGE).read_text()
    version = re.search(r'^__version__ = "([^"]+)"', package, re.MULTILINE)
    if version is None:
        raise SeedError(f"{PACKAGE} names no version")
    broken = f"{version[1]}+without.{rule.replace('-', '.')}"
    (out / PACKAGE).write_text(package.replace(version[0], f'__version__ = "{broken}"'))
    project = (out / "pyproject.toml").read_text()
    (out / "pyproject.toml").write_text(project.replace(f'\nversion = "{version[1]}"', f'\nversion = "{broken}"', 1))
    with (out / ENTRY).open("a") as file:
        file.write(SEED.format(rule=rule, sentence=known[rule]))
    return broken


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rule", nargs="?", help="which one; none: list them")
    parser.add_argument("--out", type=Path, help="the folder of the copy")
    parser.add_argument("--source", type=Path, default=REPOSITORY, help="copy another tree than this one")
    options = parser.parse_args()
    try:
        if options.rule is None:
            for name, sentence in rules(options.source).items():
                print(f"{name:<30} {sentence}")
            return 0
        if options.out is None:
            parser.error("where to? --out FOLDER")
        version = seed(options.rule, options.out.absolute(), options.source)
    except SeedError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.out} is version {version}; it must never serve anybody")
    print(f"deploy it with -e cluster_source={options.out.absolute()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
