"""The applications as the soak sees them: what its clients ask for, how everything is read, how a window is judged."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from paxos_twisted_client.kv_workload import KvWorkload

from paxos_twisted.apps.auction import Auctions, Status
from paxos_twisted.apps.bank import BALANCE, KIND_NAMES, TRANSFER, BankOp
from paxos_twisted.apps.chat import History as RoomHistory
from paxos_twisted.apps.chat import Rooms
from paxos_twisted.apps.kv import List
from paxos_twisted.check.command import MODELS, check_recorded
from paxos_twisted.check.explain import explain
from paxos_twisted.check.history import History, Operation, write_history
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.cluster.windows import BUDGET_STEPS, CarriedBank, Windows, WindowVerdict
from paxos_twisted.sim.workloads import WORKLOADS, Habits

AMOUNT_MAX: Final = 1000

AnyOperation = Operation[Any, Any]
AnyHistory = History[Any, Any]


class Judge(Protocol):
    """Judges window after window, and carries on what is known at the end of each."""

    @property
    def checked(self) -> int:
        """Operations in all windows."""
        ...

    @property
    def undecided(self) -> int:
        """Windows for which the budget did not suffice."""
        ...

    def check(self, history: AnyHistory, readings: Sequence[AnyOperation]) -> WindowVerdict:
        """Judge a window. `readings`, its last operations, have read everything."""
        ...

    def keep_evidence(self, folder: Path, history: AnyHistory) -> None:
        """Write down a window, and what was known before it."""
        ...


class Soaked(Protocol):
    """One application under torture."""

    name: str

    def draw(self, rng: Random, client: int) -> Any:
        """What client number `client` asks for next."""
        ...

    def readings(self) -> Sequence[Any]:
        """Operations that together read everything that clients have written."""
        ...

    def judge(self) -> Judge:
        """A judge that knows that the cluster is new."""
        ...


class SoakedBank:
    """Few accounts, so that transactions get into each other's way."""

    name = "bank"

    def __init__(self, accounts: int) -> None:
        self.accounts = accounts

    def draw(self, rng: Random, client: int) -> BankOp:
        """Each kind alike."""
        kind = rng.randrange(len(KIND_NAMES))
        amount = 0 if kind == BALANCE else rng.randrange(1, AMOUNT_MAX + 1)
        to = rng.randrange(self.accounts) if kind == TRANSFER else 0
        return BankOp(kind, rng.randrange(self.accounts), amount, to)

    def readings(self) -> list[BankOp]:
        """Every balance."""
        return [BankOp(BALANCE, account) for account in range(self.accounts)]

    def judge(self) -> Judge:
        """Linearizability, and that no money comes or goes."""
        return BankJudge()


class BankJudge:
    """See `Windows`."""

    def __init__(self) -> None:
        self._windows = Windows()
        self._before: dict[int, int] = {}

    @property
    def checked(self) -> int:
        """See `Judge`."""
        return self._windows.checked

    @property
    def undecided(self) -> int:
        """See `Judge`."""
        return self._windows.undecided

    def check(self, history: AnyHistory, readings: Sequence[AnyOperation]) -> WindowVerdict:
        """See `Judge`."""
        balances = {one.op.account: one.result.balance for one in readings if one.result is not None}
        verdict = self._windows.check(history, balances)
        if verdict.outcome is not Outcome.VIOLATION:
            self._before = balances
        return verdict

    def keep_evidence(self, folder: Path, history: AnyHistory) -> None:
        """See `Judge`."""
        (folder / "balances-before.json").write_text(json.dumps(self._before, indent=2), encoding="utf-8")
        (folder / "history.jsonl").write_bytes(b"".join(write_history(history, CarriedBank(self._before))))


class CarryingJudge:
    """For any application that has a model: a window begins with the readings at the end of the one before it.

    The model takes the first look at a thing as it comes, which is that reading. So the state is known from there on.
    """

    def __init__(self, application: str) -> None:
        self.checked = 0
        self.undecided = 0
        self._make_model = MODELS[application]
        self._is_first = True
        self._before: list[AnyOperation] = []  # the readings at the end of the last window

    def check(self, history: AnyHistory, readings: Sequence[AnyOperation]) -> WindowVerdict:
        """See `Judge`."""
        model = self._make_model(self._is_first)
        whole = self._with_readings(history)
        verdict = check_recorded(model, whole, BUDGET_STEPS)
        self.checked += len(history.operations)
        self.undecided += verdict.outcome is Outcome.UNKNOWN
        self._is_first = False
        if verdict.outcome is not Outcome.VIOLATION:
            self._before = list(readings)
        text = [] if verdict.outcome is Outcome.OK else explain(verdict, whole, model)
        return WindowVerdict(verdict.outcome, len(history.operations), text)

    def keep_evidence(self, folder: Path, history: AnyHistory) -> None:
        """See `Judge`. `paxosctl check-history --start any` repeats the verdict."""
        lines = write_history(self._with_readings(history), self._make_model(False))
        (folder / "history.jsonl").write_bytes(b"".join(lines))

    def _with_readings(self, history: AnyHistory) -> AnyHistory:
        """The window, behind what was read before it. Who was under way at the same time stays so."""
        whole: AnyHistory = History()
        operations = [*self._before, *history.operations]
        for one in operations:
            whole.invoke(one.process, one.client, one.seq, one.op, one.call)
        for one in operations:
            if one.outcome == "ok":
                whole.ok(one.process, one.client, one.seq, one.result, one.end or 0)
            elif one.outcome == "fail":
                whole.fail(one.process, one.client, one.seq, one.reason, one.end or 0)
            elif one.outcome == "unknown":
                whole.unknown(one.process, one.client, one.seq, one.reason, one.end or 0)
        return whole


class SoakedStore:
    """Few keys, all kinds of operations, values that tell who wrote them."""

    name = "kv"

    def __init__(self, keys: int) -> None:
        self.keys = keys
        self._workloads: dict[int, KvWorkload] = {}

    def draw(self, rng: Random, client: int) -> Any:
        """Each client has a sequence of its own."""
        workload = self._workloads.get(client)
        if workload is None:
            options = {
                "mix": {"get": 38.0, "put": 38.0, "delete": 8.0, "cas": 14.0, "list": 2.0},
                "keys": self.keys,
                "value_size": 12,
            }
            workload = self._workloads[client] = KvWorkload(rng.getrandbits(32), client, options)
        return workload.next()

    def readings(self) -> list[List]:
        """All keys fit one page."""
        return [List()]

    def judge(self) -> Judge:
        """Linearizability, lists included."""
        return CarryingJudge(self.name)


class SoakedTalk:
    """Chats and auctions, with the clients of the simulator."""

    def __init__(self, name: str, topics: int) -> None:
        self.name = name
        self._habits = Habits(accounts=topics, transfer_share=0.02)
        self._draw = WORKLOADS[name].draw
        self._topics = topics

    def draw(self, rng: Random, client: int) -> Any:
        """As the simulator's clients."""
        return self._draw(rng.random, self._habits, client)

    def readings(self) -> list[Any]:
        """The list, and each topic."""
        if self.name == "chat":
            return [Rooms(), *(RoomHistory(f"room {number}") for number in range(self._topics))]
        return [Auctions(), *(Status(f"sale {number}") for number in range(self._topics))]

    def judge(self) -> Judge:
        """Linearizability."""
        return CarryingJudge(self.name)


SOAKED: Final[dict[str, Callable[[int], Soaked]]] = {
    "bank": SoakedBank,
    "kv": SoakedStore,
    "chat": lambda topics: SoakedTalk("chat", topics),
    "auction": lambda topics: SoakedTalk("auction", topics),
}
"""By the application's name; the argument is how many accounts, keys, rooms or auctions there are."""
