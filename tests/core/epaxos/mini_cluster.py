"""A cluster of EPaxos engines in memory: messages in flight that are delivered in any order, lost or repeated; disks
that lose what was not synced; restarts from records. Checked after every step: EA, EV, EX. At the end: LIV.

Commands are deposits into, and balances of, a few accounts of the bank, so few keys make many conflicts.
"""

from collections import deque
from random import Random
from typing import Any

import msgspec

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, Bank, BankOp
from paxos_twisted.core.command import NOOP, Command, array_of
from paxos_twisted.core.engine import Batch, LinkState
from paxos_twisted.core.epaxos import EPaxos, Settings
from paxos_twisted.core.epaxos.instance import covers
from paxos_twisted.core.epaxos.interference import Access, footprints_of, joined
from paxos_twisted.core.epaxos.messages import COMMITTED
from paxos_twisted.core.records import SnapshotPiece, SnapshotTaken, Truncated

SETTINGS = Settings(
    heartbeat_ms=40, delay_ms=200, delta_ms=40, answer_ms=60, recover_ms=200, catch_up_ms=40, hold_ms=300
)
TICK_MS = 20

_decode = msgspec.msgpack.Decoder(list[Command[BankOp] | Any]).decode
_footprints = footprints_of(Bank())


def access_of(body: bytes, count: int) -> Access:
    return joined(_footprints(body, count))


class Machine:
    """One replica with its disk. What is not durable is lost in a crash."""

    def __init__(self, cluster: "MiniCluster", node: int) -> None:
        self.cluster = cluster
        self.node = node
        self.records: list[Any] = []  # durable
        self.unsynced: deque[tuple[int, list[Any]]] = deque()
        self.held: deque[tuple[int, tuple[int, ...], Any]] = deque()
        self.engine: EPaxos | None = None
        self.persisted = 0
        self.order: list[tuple[int, int]] = []  # executed in this incarnation

    def start(self) -> None:
        cluster = self.cluster
        self.engine = EPaxos(
            self.node,
            cluster.nodes,
            cluster.settings,
            Random(cluster.rng.getrandbits(32)),
            list(self.records),
            application=Bank(),
        )
        self.unsynced.clear()
        self.held.clear()
        self.persisted = 0
        self.order = []
        for other in cluster.nodes:
            if other != self.node and cluster.machines[other].engine is not None:
                self.engine.on_link(other, LinkState.UP)
                cluster.machines[other].engine.on_link(self.node, LinkState.UP)
        self.drain()

    def crash(self) -> None:
        self.engine = None
        for other in self.cluster.nodes:
            machine = self.cluster.machines[other]
            if other != self.node and machine.engine is not None:
                machine.engine.on_link(self.node, LinkState.LOST)
                machine.engine.on_link(self.node, LinkState.REFUSED)
                machine.drain()

    def sync(self) -> None:
        if self.engine is None or not self.unsynced:
            return
        number, records = self.unsynced.popleft()
        for record in records:
            assert not isinstance(record, SnapshotPiece | SnapshotTaken | Truncated)
            # as the disk would give it back
            self.records.append(msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record)))
        self.persisted = number
        self.engine.on_persisted(number)
        self.drain()

    def drain(self) -> None:
        if self.engine is None:
            return
        cluster = self.cluster
        out = self.engine.take_output()
        if out.records:
            self.unsynced.append((out.write_no, list(out.records)))
        for receivers, message in out.sends:
            cluster.post(self.node, receivers, message)
        self.held.extend(out.sends_after)
        while self.held and self.held[0][0] <= self.persisted:
            _, receivers, message = self.held.popleft()
            cluster.post(self.node, receivers, message)
        for run in out.decided:
            cluster.note_executed(self, run.body, run.count)
        for returned in out.returned:
            cluster.returned.append(returned)
        self.engine.check_invariants()
        cluster.note_commits(self)


class MiniCluster:
    """N replicas. `rng` decides everything."""

    def __init__(self, n: int, seed: int = 0, settings: Settings = SETTINGS) -> None:
        self.nodes = tuple(range(1, n + 1))
        self.rng = Random(seed)
        self.settings = settings
        self.now_ms = 0
        self.flight: list[tuple[int, int, Any]] = []
        self.machines = {node: Machine(self, node) for node in self.nodes}
        self.decided: dict[tuple[int, int], tuple[bytes, tuple[int, ...], int]] = {}
        self.accesses: dict[tuple[int, int], Access] = {}
        self.by_key: dict[Any, list[bytes]] = {}
        self.executed: dict[int, list[bytes]] = {node: [] for node in self.nodes}
        self.returned: list[Any] = []
        self.sent: list[tuple[int, int, Any]] = []
        self.keeps_sent = False
        self.clients = 0
        self.proposed: list[bytes] = []
        for node in self.nodes:
            self.machines[node].start()

    # The world

    def post(self, src: int, receivers: tuple[int, ...], message: Any) -> None:
        for node in receivers:
            assert node != src
            if self.keeps_sent:
                self.sent.append((src, node, message))
            self.flight.append((src, node, message))

    def deliver(self, index: int) -> None:
        src, dst, message = self.flight.pop(index)
        machine = self.machines[dst]
        if machine.engine is None:
            return
        wire = msgspec.msgpack.encode(message)
        machine.engine.on_message(src, msgspec.msgpack.decode(wire, type=type(message)))
        machine.drain()

    def deliver_all(self, kinds: tuple[type, ...] | None = None) -> None:
        """Deliver, in the order of sending, until nothing (of these kinds) is in flight; sync all disks meanwhile."""
        while True:
            self.sync_all()
            index = next((i for i, one in enumerate(self.flight) if kinds is None or isinstance(one[2], kinds)), None)
            if index is None:
                return
            self.deliver(index)

    def sync_all(self) -> None:
        for machine in self.machines.values():
            while machine.engine is not None and machine.unsynced:
                machine.sync()

    def tick(self, nodes: tuple[int, ...] | None = None) -> None:
        self.now_ms += TICK_MS
        for node in nodes or self.nodes:
            machine = self.machines[node]
            if machine.engine is not None:
                machine.engine.on_tick(self.now_ms)
                machine.drain()

    def run(self, ms: int) -> None:
        """Let time pass without faults."""
        for _ in range(ms // TICK_MS):
            self.tick()
            self.deliver_all()

    def warm_up(self) -> None:
        """Until all serve clients."""
        for _ in range(50):
            if all(machine.engine.is_serving for machine in self.machines.values()):
                return
            self.run(TICK_MS)
        raise AssertionError("not all replicas serve")

    # Clients

    def command(self, account: int, kind: int = DEPOSIT, client: int | None = None, to: int = 0) -> bytes:
        if client is None:
            self.clients += 1
            client = self.clients
        return msgspec.msgpack.encode(Command(client, 0, 1, 1, BankOp(kind, account, 1, to)))

    def propose(self, node: int, *commands: bytes) -> None:
        machine = self.machines[node]
        if machine.engine is not None and machine.engine.takes_commands:
            self.proposed += commands
            machine.engine.on_propose(Batch(b"".join(commands), len(commands)))
            machine.drain()

    # Invariants

    def note_commits(self, machine: Machine) -> None:
        """EA and EV."""
        assert machine.engine is not None
        for instance in machine.engine.grid:
            if instance.status < COMMITTED:
                continue
            body, count = instance.value
            value = (body, instance.deps, instance.seq)
            known = self.decided.get(instance.id)
            if known is not None:
                assert known == value, f"EA: {instance.id} is {known} and, at {machine.node}, {value}"
                continue
            self.decided[instance.id] = value
            access = access_of(body, count)
            for other, (_, deps, _) in self.decided.items():
                if other != instance.id and access.interferes(self.accesses[other]):
                    assert covers(deps, *instance.id) or covers(instance.deps, *other), (
                        f"EV: {instance.id} {instance.deps} and {other} {deps} interfere and do not know each other"
                    )
            self.accesses[instance.id] = access

    def note_executed(self, machine: Machine, body: bytes, count: int) -> None:
        """EX: the same order of interfering commands everywhere. Kept per key: writes in order, with reads between."""
        if body == NOOP:
            return
        for command in _decode(array_of(body, count)):
            op = msgspec.convert(command[-1] if isinstance(command, list) else command.op, BankOp)
            raw = msgspec.msgpack.encode(command)
            accounts = (op.account, op.to) if op.kind == TRANSFER else (op.account,)
            for account in accounts:
                seen = machine.__dict__.setdefault("seen", {}).setdefault(account, [])
                seen.append((raw, op.kind != BALANCE))

    def check_orders(self) -> None:
        """EX over all running replicas, as far as each has come since its start."""
        writes: dict[int, list[bytes]] = {}
        for machine in self.machines.values():
            for account, seen in machine.__dict__.get("seen", {}).items():
                mine = [raw for raw, is_write in seen if is_write]
                known = writes.setdefault(account, mine)
                short, long = sorted((mine, known), key=len)
                assert long[: len(short)] == short, f"EX: account {account}: {short} and {long}"
                writes[account] = long

    def is_settled(self) -> bool:
        engines = [machine.engine for machine in self.machines.values() if machine.engine is not None]
        executed = {engine.grid.executed for engine in engines}
        return (
            len(executed) == 1
            and all(engine.waiting == 0 for engine in engines)
            and all(engine.grid.executed == engine.grid.highest for engine in engines)
        )

    def settle(self, ms: int = 8000) -> None:
        """LIV: everything that runs comes to the same end, within a bound."""
        for _ in range(ms // TICK_MS):
            self.run(TICK_MS)
            if self.is_settled():
                self.check_orders()
                return
        raise AssertionError(
            "LIV: " + "; ".join(f"{n}: {m.engine and m.engine.status()}" for n, m in self.machines.items())
        )

    # Chaos

    def step(self, loss: float = 0.05, crash: float = 0.002, accounts: int = 3) -> None:
        rng, dice = self.rng, self.rng.random()
        if dice < crash:
            running = [node for node in self.nodes if self.machines[node].engine is not None]
            if len(running) > len(self.nodes) // 2 + 1 or rng.random() < 0.2:
                self.machines[rng.choice(running)].crash() if running else None
        elif dice < 2.5 * crash:
            down = [node for node in self.nodes if self.machines[node].engine is None]
            if down:
                machine = self.machines[rng.choice(down)]
                machine.__dict__.pop("seen", None)
                machine.start()
        elif dice < 0.08:
            self.tick(tuple(node for node in self.nodes if rng.random() < 0.9))
        elif dice < 0.25:
            machine = self.machines[rng.choice(self.nodes)]
            machine.sync()
        elif dice < 0.35:
            kind = rng.choice((DEPOSIT, DEPOSIT, BALANCE, TRANSFER))
            commands = [
                self.command(rng.randrange(accounts), kind, to=rng.randrange(accounts))
                for _ in range(rng.choice((1, 1, 2)))
            ]
            self.propose(rng.choice(self.nodes), *commands)
        elif self.flight:
            index = rng.randrange(min(len(self.flight), 30)) if rng.random() < 0.8 else rng.randrange(len(self.flight))
            fate = rng.random()
            if fate < loss:
                self.flight.pop(index)
            else:
                if fate < 2 * loss:
                    self.flight.append(self.flight[index])
                self.deliver(index)

    def heal(self) -> None:
        for machine in self.machines.values():
            if machine.engine is None:
                machine.__dict__.pop("seen", None)
                machine.start()
