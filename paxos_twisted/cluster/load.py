"""Clients that never stop: random operations against a live cluster, every call recorded.

They use the client library as `bankclient --bench` does. Unlike the bench they go on for as long as somebody wants,
can be brought to rest and set going again, and hand over what was recorded since the last rest.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from paxos_twisted_client.endpoints import Address
from paxos_twisted_client.options import Patience
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.reactor import DelayedCall
from paxos_twisted_client.session import OK, REFUSED, Request
from paxos_twisted_client.statistics import GapMeter
from paxos_twisted_client.target import FIRST, ROUND_ROBIN, starts
from twisted.internet.defer import Deferred, DeferredList

from paxos_twisted.anatomy.facts import Step, Wait
from paxos_twisted.check.history import History
from paxos_twisted.cluster.soaked import AnyHistory, AnyOperation, Soaked, SoakedBank

AUDIT_ATTEMPTS: Final = 5
"""A reading that got no answer is repeated this often; each attempt is as patient as any request."""


class LoadError(Exception):
    """The clients cannot go on. The text says why."""


class Load:
    """A number of clients, each with a connection of its own.

    Args:
        reactor: clock and TCP.
        addresses: of the nodes.
        cluster: its name.
        clients: how many; client i keeps 1 + i % `outstanding` requests under way.
        accounts: transactions touch the accounts 0 … accounts-1. Few: they are to get into each other's way.
        application: what the clients do; the bank, with those accounts, by default.
        spread: the clients begin with different nodes, in turns: for engines that serve at every node.
        think_s: mean pause between an answer and the next request; 0: none.
        request_s: a request without an answer for so long is given up.
        rng: everything random.
        records: keep what was called and answered, for `take`.
    """

    def __init__(
        self,
        reactor: Any,
        addresses: Sequence[Address],
        *,
        cluster: str,
        clients: int,
        accounts: int,
        rng: Random,
        outstanding: int = 1,
        think_s: float = 0.0,
        request_s: float = 60.0,
        records: bool = True,
        application: Soaked | None = None,
        spread: bool = False,
    ) -> None:
        self.reactor = reactor
        self.application = application or SoakedBank(accounts)
        self.think_s = think_s
        self.rng = rng
        self.answered = 0
        """Since the beginning."""
        self.refused = 0
        self.unknown = 0
        self.is_resting = True
        self.on_answer: Callable[[int, int, int], object] | None = None
        """Called with each answer: the client's number, when it asked, and now."""
        self.history: AnyHistory | None = History() if records else None
        """What happened since the last `take`."""
        patience = Patience(request_s=request_s)
        orders = starts(ROUND_ROBIN if spread else FIRST, addresses)
        self.clients = [
            _Client(
                self,
                index,
                Pool(
                    reactor,
                    orders[index % len(orders)],
                    cluster=cluster,
                    application=self.application.name,
                    patience=patience,
                    rng=Random(rng.getrandbits(64)),
                ),
                1 + index % outstanding,
            )
            for index in range(clients)
        ]

    def now_ns(self) -> int:
        """The clock of all times here."""
        return self.clients[0].pool.now_ns()

    def run(self) -> None:
        """Set the clients going."""
        self.is_resting = False
        for client in self.clients:
            client.go_on()

    def rest(self) -> "Deferred[None]":
        """Let the clients send nothing new. Fires when every request has ended."""
        self.is_resting = True
        return DeferredList([client.when_idle() for client in self.clients]).addCallback(lambda _: None)

    async def audit(self) -> list[AnyOperation]:
        """Read everything, while the clients rest, and return these operations. They are recorded like all else.

        A request whose outcome is unknown may still take effect, much later. Before the audit, each client that has one
        makes a further request in the same session: it acknowledges all that came before, so that the session table
        refuses a late copy. What the audit finds is therefore final.

        Raises:
            LoadError: something could not be read.
        """
        assert self.is_resting
        assert self.history is not None
        readings = self.application.readings()
        for client in self.clients:
            if client.in_doubt:
                await client.ask_until_answered(readings[0])
                client.in_doubt = False
        found: list[AnyOperation] = []
        for index, op in enumerate(readings):
            request = await self.clients[index % len(self.clients)].ask_until_answered(op)
            operation = self.history.find(request.client, request.seq)
            assert operation is not None
            found.append(operation)
        return found

    def take(self) -> AnyHistory:
        """Hand over what was recorded, and begin a new history. Only at rest: nothing may be under way."""
        assert self.is_resting
        assert self.history is not None
        taken, self.history = self.history, History()
        return taken

    def forget_gaps(self) -> None:
        """Measure gaps anew. Requests that are under way count from now on."""
        for client in self.clients:
            client.forget_gap()

    def longest_gap_ms(self) -> float:
        """The longest time, since `forget_gaps`, in which a client waited for an answer."""
        return max(client.gap.longest_ns for client in self.clients) / 1e6

    def longest_waits(self) -> list[Wait]:
        """The longest wait of each client since `forget_gaps`, with what it did meanwhile."""
        return [client.longest_wait() for client in self.clients]

    def answers(self) -> list[int]:
        """Number of answers of each client."""
        return [client.answers for client in self.clients]

    def all_served_since(self, before: Sequence[int]) -> bool:
        """Whether every client got an answer to a request that it made after `before` (of `answers`) was taken."""
        pairs = zip(self.clients, before, strict=True)
        return all(client.answers > answers + client.outstanding for client, answers in pairs)

    async def close(self) -> None:
        """End everything."""
        self.is_resting = True
        for client in self.clients:
            client.cancel()
        for client in self.clients:
            await client.pool.close()


class _Client:
    def __init__(self, load: Load, process: int, pool: Pool, outstanding: int) -> None:
        self.pool = pool
        self.outstanding = outstanding
        self.gap = GapMeter()
        self.answers = 0
        self.in_doubt = False
        self._load = load
        self._process = process
        self._session = pool.session()
        self._open = 0
        self._thinking: set[DelayedCall] = set()
        self._idle: list[Deferred[None]] = []

    def go_on(self) -> None:
        for _ in range(self.outstanding - self._open - len(self._thinking)):
            self._submit(self._draw())

    def cancel(self) -> None:
        for call in self._thinking:
            call.cancel()
        self._thinking.clear()

    def when_idle(self) -> "Deferred[None]":
        self.cancel()
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        self._check_idle()
        return done

    def forget_gap(self) -> None:
        self.gap = GapMeter()
        for _ in range(self._open):
            self.gap.invoked(self.pool.now_ns())

    def longest_wait(self) -> Wait:
        gap = self.gap
        start_ns, end_ns = gap.longest_end_ns - gap.longest_ns, gap.longest_end_ns
        steps = tuple(Step(*step) for step in self.pool.steps_since(start_ns) if step.time_ns <= end_ns)
        return Wait(str(self._process + 1), start_ns, end_ns, gap.longest_sent_ns or start_ns, steps)

    async def ask_until_answered(self, op: Any) -> Request:
        for _ in range(AUDIT_ATTEMPTS):
            done: Deferred[Request] = Deferred()
            self._submit(op, done)
            request = await done
            if request.outcome == OK:
                return request
        raise LoadError(f"{op} could not be read: {request.text or request.reason}")

    def _draw(self) -> Any:
        return self._load.application.draw(self._load.rng, self._process)

    def _submit(self, op: Any, done: "Deferred[Request] | None" = None) -> None:
        self._open += 1

        def on_done(request: Request) -> None:
            self._on_done(request)
            if done is not None:
                done.callback(request)

        request = self._session.submit(op, on_done)
        self.gap.invoked(request.started_ns)
        history = self._load.history
        if history is not None:
            history.invoke(self._process, request.client, request.seq, op, request.started_ns)

    def _on_done(self, request: Request) -> None:
        load = self._load
        self._open -= 1
        if request.outcome == OK:
            self.answers += 1
            load.answered += 1
            if load.on_answer is not None:
                load.on_answer(self._process, request.started_ns, request.finished_ns)
            self.gap.answered(request.finished_ns, request.sent_ns)
        else:
            self.gap.failed(request.finished_ns)
            if request.outcome == REFUSED:
                load.refused += 1
            else:
                load.unknown += 1
                self.in_doubt = True
            if self._session.is_expired and request.client == self._session.client:
                self._session = self.pool.renew(self._session)  # late copies of the old one are refused as expired
        self._record(request)
        if load.is_resting:
            self._check_idle()
        elif load.think_s:
            self._think()
        else:
            self.go_on()

    def _record(self, request: Request) -> None:
        history = self._load.history
        if history is None:
            return
        key = (self._process, request.client, request.seq)
        if request.outcome == OK:
            history.ok(*key, request.result, request.finished_ns)
        elif request.outcome == REFUSED:
            history.fail(*key, request.reason, request.finished_ns)
        else:
            history.unknown(*key, request.reason, request.finished_ns)

    def _think(self) -> None:
        load = self._load

        def go_on() -> None:
            self._thinking.discard(call)
            self._submit(self._draw())

        call = load.reactor.callLater(load.rng.expovariate(1 / load.think_s), go_on)
        self._thinking.add(call)

    def _check_idle(self) -> None:
        if not self._open:
            idle, self._idle = self._idle, []
            for done in idle:
                done.callback(None)
