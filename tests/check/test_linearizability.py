"""The checker against histories whose verdict is known, and against one that tries everything."""

import random
import time

import pytest
from histories import Row, brute_force, history, mutate, run
from hypothesis import given, settings
from hypothesis import strategies as st

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, BankOp, BankResult
from paxos_twisted.check.bank import BankModel
from paxos_twisted.check.command import BankHistory
from paxos_twisted.check.explain import explain
from paxos_twisted.check.linearizability import LAZY, WIDER, check_linearizable
from paxos_twisted.check.search import COMPLETE, Budget, Level, Search, Task
from paxos_twisted.check.verdict import Outcome, Verdict

SEEDS = st.integers(0, 2**32 - 1)
"""A run is too long for hypothesis to draw each of its choices."""

OK, VIOLATION, UNKNOWN = Outcome.OK, Outcome.VIOLATION, Outcome.UNKNOWN


def check(made: BankHistory, budget: int = 1_000_000) -> Verdict[BankOp, BankResult]:
    return check_linearizable(BankModel(), made, budget)


TABLE: list[tuple[str, Outcome, list[Row]]] = [
    ("nothing happened", OK, []),
    ("one deposit, then its balance", OK, [("deposit 1 5", "5", 0, 1), ("balance 1", "5", 2, 3)]),
    ("a new account is empty", OK, [("balance 1", "0", 0, 1)]),
    ("a balance from nowhere", VIOLATION, [("balance 1", "5", 0, 1)]),
    ("stale read: an answered deposit is not seen", VIOLATION, [("deposit 1 5", "5", 0, 1), ("balance 1", "0", 2, 3)]),
    ("a read that overlaps a deposit may miss it", OK, [("deposit 1 5", "5", 0, 3), ("balance 1", "0", 1, 2)]),
    ("a read that overlaps a deposit may see it", OK, [("deposit 1 5", "5", 0, 3), ("balance 1", "5", 1, 2)]),
    (
        "once seen, a deposit stays seen, also before its answer",
        VIOLATION,
        [("deposit 1 5", "5", 0, 9), ("balance 1", "5", 1, 2), ("balance 1", "0", 3, 4)],
    ),
    (
        "lost update: two deposits to an empty account are both answered 5",
        VIOLATION,
        [("deposit 1 5", "5", 0, 3), ("deposit 1 5", "5", 1, 2)],
    ),
    (
        "two overlapping deposits, answered in the other order",
        OK,
        [("deposit 1 5", "12", 0, 2), ("deposit 1 7", "7", 1, 3)],
    ),
    (
        "reorder: the second deposit was called after the first was answered, but came before it",
        VIOLATION,
        [("deposit 1 5", "12", 0, 1), ("deposit 1 7", "7", 2, 3)],
    ),
    (
        "double apply: one deposit counts twice",
        VIOLATION,
        [("deposit 1 5", "5", 0, 1), ("balance 1", "10", 2, 3)],
    ),
    (
        "double apply seen by the answer to its repetition",
        VIOLATION,
        [("deposit 1 5", "10", 0, 1)],
    ),
    (
        "an unknown deposit was applied before it was given up",
        OK,
        [("deposit 1 5", "unknown", 0, 1), ("balance 1", "5", 2, 3)],
    ),
    (
        "an unknown deposit is applied late, between two reads",
        OK,
        [("deposit 1 5", "unknown", 0, 1), ("balance 1", "0", 2, 3), ("balance 1", "5", 4, 5)],
    ),
    (
        "an unknown deposit is never applied",
        OK,
        [("deposit 1 5", "unknown", 0, 1), ("balance 1", "0", 2, 3), ("balance 1", "0", 4, 5)],
    ),
    (
        "an unknown deposit cannot be taken back",
        VIOLATION,
        [("deposit 1 5", "unknown", 0, 1), ("balance 1", "5", 2, 3), ("balance 1", "0", 4, 5)],
    ),
    (
        "an unknown deposit cannot be applied twice",
        VIOLATION,
        [("deposit 1 5", "unknown", 0, 1), ("balance 1", "5", 2, 3), ("balance 1", "10", 4, 5)],
    ),
    (
        "an unknown deposit cannot be applied before its call",
        VIOLATION,
        [("balance 1", "5", 0, 1), ("deposit 1 5", "unknown", 2, 3)],
    ),
    ("an operation without an end is unknown", OK, [("deposit 1 5", "open", 0, 0), ("balance 1", "5", 2, 3)]),
    (
        "of three unknown deposits two were applied",
        OK,
        [
            ("deposit 1 5", "unknown", 0, 1),
            ("deposit 1 7", "open", 0, 1),
            ("deposit 1 11", "unknown", 0, 1),
            ("balance 1", "16", 2, 3),
            ("balance 1", "23", 4, 5),
        ],
    ),
    (
        "no choice among unknown deposits gives this balance",
        VIOLATION,
        [("deposit 1 5", "unknown", 0, 1), ("deposit 1 7", "unknown", 0, 1), ("balance 1", "13", 2, 3)],
    ),
    (
        "an unknown withdrawal needs the money of an unknown deposit",
        OK,
        [("withdraw 1 5", "unknown", 0, 1), ("deposit 1 7", "unknown", 0, 1), ("balance 1", "2", 2, 3)],
    ),
    (
        "an unknown withdrawal without funds changes nothing",
        VIOLATION,
        [("deposit 1 3", "3", 0, 1), ("withdraw 1 5", "unknown", 2, 3), ("balance 1", "0", 4, 5)],
    ),
    (
        "an unknown transfer brings the money of another unknown transfer",
        OK,
        [
            ("deposit 3 5", "5", 0, 1),
            ("transfer 2 1 5", "unknown", 2, 3),
            ("transfer 3 2 5", "unknown", 2, 3),
            ("balance 1", "5", 4, 5),
            ("balance 3", "0", 6, 7),
            ("balance 2", "0", 8, 9),
        ],
    ),
    ("a failed deposit is not seen", OK, [("deposit 1 5", "fail", 0, 1), ("balance 1", "0", 2, 3)]),
    ("a failed deposit was applied", VIOLATION, [("deposit 1 5", "fail", 0, 1), ("balance 1", "5", 2, 3)]),
    (
        "a refusal for lack of funds is an answer",
        OK,
        [("deposit 1 5", "5", 0, 1), ("withdraw 1 7", "refused 5", 2, 3), ("withdraw 1 5", "0", 4, 5)],
    ),
    (
        "a refusal that names an old balance",
        VIOLATION,
        [("deposit 1 5", "5", 0, 1), ("withdraw 1 7", "refused 0", 2, 3)],
    ),
    (
        "a transfer moves money",
        OK,
        [
            ("deposit 1 5", "5", 0, 1),
            ("transfer 1 2 3", "2 3", 2, 3),
            ("balance 2", "3", 4, 5),
            ("balance 1", "2", 4, 5),
        ],
    ),
    (
        "half a transfer: the money left one account and did not arrive",
        VIOLATION,
        [
            ("deposit 1 5", "5", 0, 1),
            ("transfer 1 2 3", "unknown", 2, 3),
            ("balance 1", "2", 4, 5),
            ("balance 2", "0", 6, 7),
        ],
    ),
    (
        "torn transfer: the second account has the money before the first has lost it",
        VIOLATION,
        [
            ("deposit 1 5", "5", 0, 1),
            ("transfer 1 2 3", "2 3", 2, 9),
            ("balance 2", "3", 3, 4),
            ("balance 1", "5", 5, 6),
        ],
    ),
    (
        "two observers disagree about the order of two transfers",
        VIOLATION,
        [
            ("deposit 1 5", "5", 0, 1),
            ("transfer 1 2 1", "4 1", 2, 20),
            ("transfer 1 3 1", "3 1", 2, 20),
            ("balance 3", "1", 3, 4),
            ("balance 2", "0", 5, 6),
        ],
    ),
    (
        "a transfer to the same account changes nothing",
        OK,
        [("deposit 1 5", "5", 0, 1), ("transfer 1 1 5", "5 5", 2, 3), ("balance 1", "5", 4, 5)],
    ),
    (
        "an answer for an account that was emptied by an overlapping transfer",
        OK,
        [
            ("deposit 1 5", "5", 0, 1),
            ("withdraw 1 5", "refused 0", 2, 5),
            ("transfer 1 2 5", "0 5", 3, 4),
        ],
    ),
]


@pytest.mark.parametrize(("want", "rows"), [pytest.param(want, rows, id=name) for name, want, rows in TABLE])
def test_hand_made_histories(want: Outcome, rows: list[Row]) -> None:
    made = history(*rows)
    assert brute_force(made) == (want is OK)
    assert check(made).outcome is want


class TestExplanation:
    def test_a_violation_names_the_answer_the_situation_and_what_was_open(self) -> None:
        made = history(
            ("deposit 1 5", "5", 0, 1_000_000),
            ("deposit 1 7", "unknown", 0, 2_000_000),
            ("deposit 1 9", "fail", 0, 2_000_000),
            ("balance 1", "14", 3_000_000, 4_000_000),
        )
        assert explain(check(made), made, BankModel()) == [
            "No order of the operations explains this answer:",
            "    balance 1 -> balance 14 [request 1 of client 3, from 3.000 ms to 4.000 ms]",
            "Took effect before it, the last ones:",
            "    deposit 1 5 -> balance 5 [request 1 of client 0, from 0.000 ms to 1.000 ms]",
            "The situation then:",
            "    account 1 holds 5",
            "Open at that time, but no choice among them leads to the answer:",
            "    deposit 1 7 -> unknown: timeout [request 1 of client 1, from 0.000 ms to 2.000 ms]",
            "Reported as failed, so certainly not applied:",
            "    deposit 1 9 -> fail: overloaded [request 1 of client 2, from 0.000 ms to 2.000 ms]",
            "The rest of the history is not needed to see this.",
        ]

    def test_accounts_that_are_not_needed_are_left_out(self) -> None:
        made = history(
            ("deposit 1 5", "5", 0, 1),
            ("transfer 1 2 1", "4 1", 2, 3),
            ("transfer 2 3 1", "0 1", 4, 9),
            ("transfer 1 3 1", "3 1", 4, 9),
            ("balance 3", "3", 5, 6),
        )
        violation = check(made).violation
        assert violation is not None
        assert violation.keys == (3,)
        assert violation.restricted

    def test_several_possible_situations_are_told_apart(self) -> None:
        made = history(
            ("deposit 1 9", "9", 0, 1),
            ("transfer 1 2 5", "unknown", 2, 3),
            ("transfer 1 3 5", "unknown", 2, 3),
            ("balance 1", "4", 4, 5),
            ("balance 2", "5", 6, 7),
            ("balance 3", "5", 8, 9),
        )
        verdict = check(made)
        assert verdict.outcome is VIOLATION
        assert verdict.violation is not None
        assert verdict.violation.operation.client == 5

    def test_nothing_is_said_of_a_history_that_is_ok(self) -> None:
        made = history(("balance 1", "0", 0, 1))
        assert explain(check(made), made, BankModel()) == []


class TestBudget:
    def test_a_budget_that_does_not_suffice_gives_unknown_and_says_so(self) -> None:
        made = run(random.Random(1), operations=50, processes=4, accounts=2, amount_max=9)
        verdict = check(made, 20)
        assert verdict.outcome is UNKNOWN
        assert verdict.steps <= 20
        assert "larger budget" in explain(verdict, made, BankModel())[-1]

    def test_a_sum_of_many_unknown_amounts_is_out_of_reach_and_never_guessed(self) -> None:
        rng = random.Random(1)
        rows: list[Row] = [(f"deposit 1 {rng.randrange(10_000)}", "open", 0, 0) for _ in range(30)]
        made = history(*rows, ("balance 1", "71234", 2, 3))
        verdict = check(made, 400_000)
        assert verdict.outcome is UNKNOWN
        text = "\n".join(explain(verdict, made, BankModel()))
        assert "not every choice among them was tried" in text

    def test_the_same_history_takes_the_same_steps(self) -> None:
        made = run(random.Random(5), operations=300, processes=8, accounts=3, amount_max=9, unknown=0.1)
        assert check(made) == check(made)


class TestUsedCluster:
    """The accounts may hold anything when the history begins."""

    @pytest.mark.parametrize(
        ("want", "rows"),
        [
            pytest.param(OK, [("balance 1", "5", 0, 1), ("deposit 1 1", "6", 2, 3)], id="the first balance is taken"),
            pytest.param(VIOLATION, [("balance 1", "5", 0, 1), ("balance 1", "6", 2, 3)], id="the second one counts"),
            pytest.param(
                OK,
                [("transfer 1 2 5", "2 9", 0, 1), ("balance 1", "2", 2, 3), ("balance 2", "9", 2, 3)],
                id="a transfer shows both",
            ),
            pytest.param(
                OK,
                [("transfer 1 2 5", "open", 0, 1), ("balance 2", "0", 2, 3), ("balance 2", "5", 4, 5)],
                id="an account that nobody has seen can pay",
            ),
            pytest.param(
                VIOLATION,
                [("transfer 1 2 5", "open", 0, 1), ("balance 2", "0", 2, 3), ("balance 2", "6", 4, 5)],
                id="but only the amount",
            ),
            pytest.param(
                VIOLATION,
                [("deposit 1 5", "4", 0, 1)],
                id="no account holds less than was just paid in",
            ),
        ],
    )
    def test_first_balances_come_as_they_are(self, want: Outcome, rows: list[Row]) -> None:
        assert check_linearizable(BankModel(fresh=False), history(*rows)).outcome is want

    @given(SEEDS)
    @settings(max_examples=50)
    def test_the_end_of_a_true_run_is_ok(self, seed: int) -> None:
        made = run(random.Random(seed), operations=60, processes=4, accounts=3, amount_max=5, unknown=0.1)
        first = made.operations[len(made.operations) // 2].call
        tail = BankHistory()
        # Requests of before that were still open have an unknown effect on the end: they are part of it, unanswered.
        for operation in made.operations:
            if operation.outcome != "ok" or operation.end is None or operation.end >= first:
                tail.invoke(operation.process, operation.client, operation.seq, operation.op, operation.call)
        for operation in made.operations:
            if operation.result is not None and operation.call >= first:
                assert operation.end is not None
                tail.ok(operation.process, operation.client, operation.seq, operation.result, operation.end)
        assert check_linearizable(BankModel(fresh=False), tail).outcome is OK


TINY = st.fixed_dictionaries(
    {
        "operations": st.integers(2, 7),
        "processes": st.integers(1, 4),
        "accounts": st.integers(1, 3),
        "amount_max": st.integers(1, 3),
        "unknown": st.sampled_from([0.0, 0.3, 0.6]),
        "fail": st.sampled_from([0.0, 0.2]),
        "outstanding": st.integers(1, 2),
        "kinds": st.sampled_from([(0, 1, 2, 3), (1, 3), (0, 1, 3, 3)]),
    }
)


@st.composite
def any_row(draw: st.DrawFn, accounts: int) -> Row:
    """Any operation on accounts from 1 on with any end, also one that no bank would give."""
    account, to, amount = draw(st.integers(1, accounts)), draw(st.integers(1, accounts)), draw(st.integers(1, 2))
    kind = draw(st.sampled_from(["balance", "deposit", "withdraw", "transfer"]))
    text = {"balance": f"balance {account}", "transfer": f"transfer {account} {to} {amount}"}.get(
        kind, f"{kind} {account} {amount}"
    )
    ends = ["unknown", "fail", "open"]
    if kind == "transfer":
        ends += [f"{balance} {balance_to}" for balance in range(3) for balance_to in range(4)]
    else:
        ends += [str(balance) for balance in range(4)]
    if kind in ("withdraw", "transfer"):
        ends += [f"refused {balance}" for balance in range(amount)]
    call = draw(st.integers(0, 9))
    return text, draw(st.sampled_from(ends)), call, call + draw(st.integers(1, 9))


class TestAgainstBruteForce:
    @given(st.lists(any_row(2), max_size=4))
    @settings(max_examples=200)
    def test_verdicts_agree_when_the_accounts_may_hold_anything_at_first(self, rows: list[Row]) -> None:
        made = history(*rows)
        truth = any(brute_force(made, {1: one, 2: two}) for one in range(9) for two in range(9))
        assert check_linearizable(BankModel(fresh=False), made).outcome is (OK if truth else VIOLATION)

    @given(st.lists(any_row(3), max_size=6))
    @settings(max_examples=300)
    def test_verdicts_agree_on_any_tiny_history(self, rows: list[Row]) -> None:
        made = history(*rows)
        assert check(made).outcome is (OK if brute_force(made) else VIOLATION)

    @given(TINY, SEEDS, st.integers(0, 2))
    @settings(max_examples=300)
    def test_verdicts_agree_on_tiny_runs(self, shape: dict[str, int], seed: int, wrong: int) -> None:
        rng = random.Random(seed)
        made = run(rng, **shape)  # type: ignore[arg-type]
        for _ in range(wrong):
            mutate(rng, made)
        truth = brute_force(made)
        assert truth or wrong
        assert check(made).outcome is (OK if truth else VIOLATION)

    @pytest.mark.parametrize(
        "level",
        [
            pytest.param(Level(0, 0, 9, 3), id="hardly anything is tried"),
            pytest.param(Level(1, 1, 20, 2), id="little is tried"),
            pytest.param(LAZY, id="lazy"),
            pytest.param(WIDER, id="wider"),
            pytest.param(COMPLETE, id="complete"),
        ],
    )
    @given(TINY, SEEDS, st.booleans())
    @settings(max_examples=100)
    def test_no_level_of_the_search_says_more_than_it_knows(
        self, level: Level, shape: dict[str, int], seed: int, wrong: bool
    ) -> None:
        rng = random.Random(seed)
        made = run(rng, **shape)  # type: ignore[arg-type]
        if wrong:
            mutate(rng, made)
        tasks = [Task(operation.op, operation.result, i) for i, operation in enumerate(made.operations)]
        dead = Search(BankModel(), tasks, Budget(10**6), level).run(made.events())
        if dead is None:
            assert brute_force(made)
        elif not dead.cut:
            assert not brute_force(made)
        else:
            assert level is not COMPLETE


class TestTrueRuns:
    @given(SEEDS, st.integers(1, 8), st.integers(1, 20), st.sampled_from([3, 10_000]))
    @settings(max_examples=60)
    def test_a_true_run_with_delays_and_unknown_ends_is_ok(
        self, seed: int, processes: int, accounts: int, amount_max: int
    ) -> None:
        made = run(
            random.Random(seed),
            operations=120,
            processes=processes,
            accounts=accounts,
            amount_max=amount_max,
            unknown=0.05,
            fail=0.05,
        )
        assert check(made).outcome is OK

    def test_most_falsified_runs_are_violations(self) -> None:
        rng = random.Random(11)
        outcomes = []
        for _ in range(50):
            made = run(rng, operations=120, processes=5, accounts=6, amount_max=1000, unknown=0.05)
            assert mutate(rng, made)
            outcomes.append(check(made).outcome)
        assert outcomes.count(VIOLATION) >= 45
        assert UNKNOWN not in outcomes

    def test_a_deposit_that_was_applied_twice_after_a_crash_is_found_among_unknown_ones(self) -> None:
        rng = random.Random(12)
        made = run(rng, operations=400, processes=8, accounts=20, amount_max=1000, unknown=0.1)
        time = made.operations[-1].call + 10**6
        made.invoke(90, 90, 1, BankOp(BALANCE, 3), time)
        made.ok(90, 90, 1, BankResult(3, 0), time + 1)
        made.invoke(90, 90, 2, BankOp(DEPOSIT, 3, 1234567), time + 2)
        made.ok(90, 90, 2, BankResult(3, 2 * 1234567), time + 3)
        assert check(made).outcome is VIOLATION

    def test_all_money_of_one_bank_moves_between_two_accounts_under_64_clients(self) -> None:
        rng = random.Random(13)
        made = run(rng, operations=1500, processes=64, accounts=2, amount_max=50, kinds=(DEPOSIT, TRANSFER))
        assert any(operation.op.kind == TRANSFER for operation in made.operations)
        assert check(made).outcome is OK

    def test_ten_thousand_operations_take_about_one_step_each(self) -> None:
        made = run(random.Random(7), operations=10_000, processes=16, accounts=1001, amount_max=10_000, unknown=0.01)
        start = time.perf_counter()
        verdict = check(made)
        seconds = time.perf_counter() - start
        print(f"10000 operations of 16 processes: {verdict.steps} steps, {seconds:.2f} s")
        assert verdict.outcome is OK
        assert verdict.steps < 15_000
