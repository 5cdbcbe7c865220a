"""The requirements: what is asked, and which tests and pages show that it is so."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec

TABLE: Final = Path("tests/requirements.yaml")

KINDS: Final = {
    "M": "mandatory",
    "O": "optional",
    "C": "claim to be demonstrated",
    "N": "no goal",
    "I": "information",
}


class TableError(Exception):
    """The table of requirements cannot be used. The text names the file and what is wrong."""


class Requirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table."""

    id: str
    kind: str
    """A key of KINDS."""
    says: str
    tests: tuple[str, ...] = ()
    """pytest's names: of a folder, a file, a test, or cases of it (with a star at the end)."""
    lab: tuple[str, ...] = ()
    """The same; these need the virtual lab."""
    documents: tuple[str, ...] = ()
    """Pages, from the root of the repository, with #heading where one is meant."""

    @property
    def is_mandatory(self) -> bool:
        """Whether a run without evidence for this row is a bad one."""
        return self.kind in ("M", "C")

    def names(self, with_lab: bool) -> tuple[str, ...]:
        """The tests of this row that are to be run."""
        return self.tests + self.lab if with_lab else self.tests


def load(root: Path) -> list[Requirement]:
    """Read the table of the repository at `root`.

    Raises:
        TableError: there is none, or it cannot be used.
    """
    path = root / TABLE
    try:
        rows = msgspec.yaml.decode(path.read_bytes(), type=list[Requirement])
    except FileNotFoundError:
        raise TableError(
            f"there is no {TABLE} in {root}: the tests belong to the repository, not to the installed package. "
            f"Start me in a checkout, or name one with --checkout"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise TableError(f"{path}: {error}") from error
    seen: set[str] = set()
    for row in rows:
        if row.kind not in KINDS:
            raise TableError(f"{path}: row {row.id} is of kind {row.kind!r}; there are {', '.join(KINDS)}")
        if row.id in seen:
            raise TableError(f"{path}: row {row.id} stands there twice")
        seen.add(row.id)
    return rows


def choose(rows: Sequence[Requirement], patterns: Sequence[str]) -> list[Requirement]:
    """The rows that a pattern names (L5-25, CH-*); all without a pattern.

    Raises:
        TableError: a pattern names none.
    """
    if not patterns:
        return list(rows)
    for pattern in patterns:
        if not any(fnmatchcase(row.id, pattern) for row in rows):
            raise TableError(f"no requirement is called {pattern!r}")
    return [row for row in rows if any(fnmatchcase(row.id, pattern) for pattern in patterns)]


def is_named(test: str, name: str) -> bool:
    """Whether pytest's test id `test` is `name`, or a case, test or file of it. `name` may end with a star."""
    if name.endswith("*"):
        return test.startswith(name[:-1])
    return test == name or (test.startswith(name) and test[len(name)] in "[:/")


def missing_pages(root: Path, documents: Sequence[str]) -> Iterator[str]:
    """A sentence for each page or heading that is not there."""
    for document in documents:
        page, _, heading = document.partition("#")
        if not (root / page).is_file():
            yield f"{page} is missing"
        elif heading and heading not in _headings(root / page):
            yield f"{page} has no heading {heading!r}"


def _headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(words.replace(" ", "-"))
    return found
