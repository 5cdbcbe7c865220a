"""From what became of tests to a verdict for each row."""

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import msgspec

from paxos_twisted.grade.rows import Requirement, is_named, missing_pages
from paxos_twisted.grade.run import Outcome


class Result(Enum):
    """The verdict on a row."""

    PASS = "PASS"
    """Every test of the row passed."""
    FAIL = "FAIL"
    """One failed, or does not exist, or a page is missing."""
    NO_CHECK = "NO-CHECK"
    """Nothing was run: the row has no test, or all of them were skipped."""
    DOCUMENT = "DOCUMENT"
    """A page shows it; nothing can be run."""


class Graded(msgspec.Struct, frozen=True):
    """A row with its verdict."""

    row: Requirement
    result: Result
    why: str
    """One sentence: what failed, or why nothing was run; "" when all is well."""
    outcomes: tuple[Outcome, ...] = ()

    @property
    def is_bad(self) -> bool:
        """A row that failed, or a mandatory one without evidence."""
        return self.result is Result.FAIL or (self.result is Result.NO_CHECK and self.row.is_mandatory)


def grade(root: Path, rows: Sequence[Requirement], outcomes: Sequence[Outcome], with_lab: bool) -> list[Graded]:
    """The verdict on each row."""
    by_test = {outcome.test: outcome for outcome in outcomes}
    return [_grade_row(root, row, by_test, with_lab) for row in rows]


def _grade_row(root: Path, row: Requirement, by_test: Mapping[str, Outcome], with_lab: bool) -> Graded:
    pages = list(missing_pages(root, row.documents))
    if pages:
        return Graded(row, Result.FAIL, "; ".join(pages))
    names = row.names(with_lab)
    if not names:
        if row.documents:
            return Graded(row, Result.DOCUMENT, "")
        return Graded(row, Result.NO_CHECK, "it needs the virtual lab: --lab" if row.lab else "nothing shows it")
    found: dict[str, Outcome] = {}
    for name in names:
        matching = {test: outcome for test, outcome in by_test.items() if _belongs(test, name)}
        if not matching:
            return Graded(row, Result.FAIL, f"there is no test {name}, or it was not reached", tuple(found.values()))
        found |= matching
    outcomes = tuple(found.values())
    failed = [outcome.test for outcome in outcomes if outcome.outcome == "failed"]
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return Graded(row, Result.FAIL, f"{failed[0]} failed{more}", outcomes)
    if not any(outcome.outcome == "passed" for outcome in outcomes):
        return Graded(row, Result.NO_CHECK, f"skipped: {outcomes[0].text}", outcomes)
    return Graded(row, Result.PASS, "", outcomes)


def _belongs(test: str, name: str) -> bool:
    """Whether an outcome counts for a name: it is part of it, or it is the file of it, which could not be read."""
    return is_named(test, name) or ("::" not in test and name.startswith(f"{test}::"))
