"""`paxosctl grade`: verdicts, evidence, and a table whose tests and pages exist."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from paxos_twisted.ctl.main import cli
from paxos_twisted.grade.rows import Requirement, TableError, choose, is_named, load, missing_pages
from paxos_twisted.grade.run import Outcome
from paxos_twisted.grade.verdict import Result, grade

ROOT = Path(__file__).parents[2]


def outcome(test: str, what: str = "passed", text: str = "") -> Outcome:
    return Outcome(test, what, 0.1, text)


@pytest.mark.parametrize(
    ("test", "name", "expected"),
    [
        pytest.param("tests/a.py::test_x", "tests/a.py::test_x", True, id="the test itself"),
        pytest.param("tests/a.py::test_x[1]", "tests/a.py::test_x", True, id="a case of it"),
        pytest.param("tests/a.py::test_xy", "tests/a.py::test_x", False, id="a test whose name begins like it"),
        pytest.param("tests/a.py::test_x", "tests/a.py", True, id="a test of the file"),
        pytest.param("tests/d/a.py::test_x", "tests/d", True, id="a test of the folder"),
        pytest.param("tests/dd/a.py::test_x", "tests/d", False, id="a folder whose name begins like it"),
        pytest.param("tests/a.py::test_x[5 hole: no]", "tests/a.py::test_x[5 *", True, id="a case by its beginning"),
        pytest.param("tests/a.py::test_x[55 hole: no]", "tests/a.py::test_x[5 *", False, id="another case"),
    ],
)
def test_what_a_name_means(test: str, name: str, expected: bool) -> None:
    assert is_named(test, name) is expected


@pytest.mark.parametrize(
    ("row", "outcomes", "lab", "result", "why"),
    [
        pytest.param({"tests": ("t.py",)}, [outcome("t.py::a")], False, Result.PASS, "", id="all passed"),
        pytest.param(
            {"tests": ("t.py",)},
            [outcome("t.py::a"), outcome("t.py::b", "failed"), outcome("t.py::c", "failed")],
            False,
            Result.FAIL,
            "t.py::b failed and 1 more",
            id="one failed",
        ),
        pytest.param(
            {"tests": ("t.py", "u.py")},
            [outcome("t.py::a")],
            False,
            Result.FAIL,
            "there is no test u.py, or it was not reached",
            id="a name that names nothing is no evidence",
        ),
        pytest.param(
            {"tests": ("t.py",)},
            [outcome("t.py::a", "skipped", "no promtool here")],
            False,
            Result.NO_CHECK,
            "skipped: no promtool here",
            id="what was skipped shows nothing",
        ),
        pytest.param(
            {"tests": ("t.py",)},
            [outcome("t.py::a", "skipped"), outcome("t.py::b")],
            False,
            Result.PASS,
            "",
            id="one of two was skipped",
        ),
        pytest.param(
            {"tests": ("t.py::a",)},
            [outcome("t.py", "failed", "ImportError")],
            False,
            Result.FAIL,
            "t.py failed",
            id="a file that cannot be read",
        ),
        pytest.param({"documents": ("README.md",)}, [], False, Result.DOCUMENT, "", id="a page"),
        pytest.param(
            {"documents": ("docs/nowhere.md",), "tests": ("t.py",)},
            [outcome("t.py::a")],
            False,
            Result.FAIL,
            "docs/nowhere.md is missing",
            id="a page that is not there",
        ),
        pytest.param({}, [], False, Result.NO_CHECK, "nothing shows it", id="nothing"),
        pytest.param(
            {"lab": ("t.py",)},
            [],
            False,
            Result.NO_CHECK,
            "it needs the virtual lab: --lab",
            id="the lab was not asked",
        ),
        pytest.param({"lab": ("t.py",)}, [outcome("t.py::a")], True, Result.PASS, "", id="the lab was asked"),
    ],
)
def test_verdicts(
    row: dict[str, tuple[str, ...]], outcomes: list[Outcome], lab: bool, result: Result, why: str
) -> None:
    requirement = Requirement("X-1", "M", "something", **row)
    (graded,) = grade(ROOT, [requirement], outcomes, lab)
    assert (graded.result, graded.why) == (result, why)


def test_a_mandatory_row_without_evidence_is_bad_and_an_optional_one_is_not() -> None:
    rows = [Requirement("X-1", kind, "something") for kind in "MCOIN"]
    assert [graded.is_bad for graded in grade(ROOT, rows, [], False)] == [True, True, False, False, False]


def test_headings_are_found_as_github_names_them(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# One\n\n## What it costs: 3 `nodes`, say\n")
    assert list(missing_pages(tmp_path, ["page.md#what-it-costs-3-nodes-say", "page.md#one", "page.md"])) == []
    assert list(missing_pages(tmp_path, ["page.md#two"])) == ["page.md has no heading 'two'"]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        pytest.param("- {id: X-1, kind: Q, says: a}", "kind 'Q'", id="an unknown kind"),
        pytest.param("- {id: X-1, kind: M, says: a}\n- {id: X-1, kind: M, says: b}", "twice", id="a repeated row"),
        pytest.param("- {id: X-1, kind: M, says: a, test: b}", "unknown field `test`", id="a misspelt key"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, table: str, problem: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/requirements.yaml").write_text(table)
    with pytest.raises(TableError, match=problem):
        load(tmp_path)


def test_outside_a_checkout_it_says_what_it_needs(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["grade", "--checkout", str(tmp_path)])
    assert result.exit_code == 2
    assert "Start me in a checkout" in result.output


def test_rows_are_chosen_by_pattern() -> None:
    rows = load(ROOT)
    assert {row.id for row in choose(rows, ["US-0*", "L5-25"])} == {
        "US-01",
        "US-02",
        "US-03",
        "US-04",
        "US-05",
        "L5-25",
    }
    with pytest.raises(TableError, match="no requirement is called 'L6-\\*'"):
        choose(rows, ["L6-*"])


def test_it_runs_tests_and_leaves_the_evidence(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(
        "import pytest\n"
        "def test_good(): print('seen to be good')\n"
        "def test_bad(): assert 1 + 1 == 3\n"
        "def test_left_out(): raise SystemExit('must not run')\n"
        "def test_absent(): pytest.skip('nobody here')\n"
    )
    (tests / "requirements.yaml").write_text(
        "- {id: X-1, kind: M, says: 'good <&>', tests: ['tests/test_it.py::test_good']}\n"
        "- {id: X-2, kind: M, says: bad, tests: ['tests/test_it.py::test_bad']}\n"
        "- {id: X-3, kind: O, says: absent, tests: ['tests/test_it.py::test_absent']}\n"
        "- {id: X-4, kind: I, says: page, documents: [tests/test_it.py]}\n"
        "- {id: X-5, kind: M, says: ghost, tests: ['tests/test_no.py::test_no']}\n"
    )
    run = subprocess.run(
        [str(Path(sys.executable).with_name("paxosctl")), "grade", "--checkout", str(tmp_path), "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 3, run.stderr
    rows = {row["id"]: row for row in json.loads(run.stdout)["rows"]}
    results = {name: row["result"] for name, row in rows.items()}
    assert results == {"X-1": "PASS", "X-2": "FAIL", "X-3": "NO-CHECK", "X-4": "DOCUMENT", "X-5": "FAIL"}
    assert "seen to be good" in Path(rows["X-1"]["log"]).read_text()
    assert "assert (1 + 1) == 3" in Path(rows["X-2"]["log"]).read_text()
    page = (tmp_path / "reports/grade/index.html").read_text()
    assert "good &lt;&amp;&gt;" in page
    assert 'href="logs/X-2.txt"' in page


def test_every_test_and_page_of_the_table_exists() -> None:
    rows = load(ROOT)
    names = sorted({name for row in rows for name in row.names(with_lab=True)})
    files = sorted({name.partition("::")[0] for name in names})
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    tests = [line for line in run.stdout.splitlines() if "::" in line]
    assert [name for name in names if not any(is_named(test, name) for test in tests)] == []
    assert [problem for row in rows for problem in missing_pages(ROOT, row.documents)] == []
