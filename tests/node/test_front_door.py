"""Front doors: whoever leads listens there; the operator's commands move an address. [AV-15, AV-20, AV-21, TR-07]"""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from paxos_twisted.core.engine import Batch
from paxos_twisted.core.multipaxos.messages import Promise
from paxos_twisted.core.multipaxos.proposer import Proposer
from paxos_twisted.node.extras import SkipSlotsError, check_skip_slots, parse_slots
from paxos_twisted.node.front_door import LOOK_S, FrontDoor
from paxos_twisted.node.quantities import Address
from paxos_twisted.types import NodeId

SERVICE = Address("127.0.0.1", 8000)


class Host:
    """One machine with one service port."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.holder: Door | None = None


class Port:
    def __init__(self, host: Host) -> None:
        self.host = host

    def stopListening(self) -> None:
        self.host.holder = None


class Door:
    """The front door of one node."""

    def __init__(self, host: Host, node: int, **more: str) -> None:
        self.host = host
        self.leads = False
        self.commands: list[tuple[str, str, Deferred[Any]]] = []
        self.door = FrontDoor(
            host.clock,  # type: ignore[arg-type]
            NodeId(node),
            lambda: self.leads,
            service=SERVICE,
            listen=self._listen,
            run=self._run,
            **more,
        )
        self.door.startService()

    def _listen(self, where: Address) -> Any:
        if self.host.holder is not None:
            raise CannotListenError(where.host, where.port, OSError("taken"))
        self.host.holder = self
        return Port(self.host)

    def _run(self, command: str, environment: dict[str, str]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.commands.append((command, environment["PAXOS_LEADS"], done))
        return done

    def lead(self, leads: bool) -> None:
        self.leads = leads
        self.host.clock.advance(LOOK_S)


def test_whoever_leads_listens_at_the_service_address() -> None:
    host = Host()
    one, two = Door(host, 1), Door(host, 2)
    host.clock.advance(1)
    assert host.holder is None
    one.lead(True)
    assert host.holder is one
    one.lead(False)
    two.lead(True)
    assert host.holder is two


def test_a_standby_that_finds_the_port_taken_tries_again() -> None:  # [AV-21]
    host = Host()
    one, two = Door(host, 1), Door(host, 2)
    one.lead(True)
    two.lead(True)  # elected, while the old leader has not noticed yet
    host.clock.advance(1)
    assert host.holder is one
    assert two.door.refused > 1
    one.lead(False)
    host.clock.advance(LOOK_S)
    assert host.holder is two
    two.lead(False)
    assert host.holder is None, "it goes back to standby"


def test_a_stopping_node_leaves_the_address() -> None:
    host = Host()
    one = Door(host, 1)
    one.lead(True)
    one.door.stopService()
    assert host.holder is None
    assert not host.clock.getDelayedCalls()


def test_the_operators_commands_run_in_order_and_one_at_a_time() -> None:
    host = Host()
    one = Door(host, 1, on_lead="ip addr add", on_follow="ip addr del")
    one.lead(True)
    assert [(command, leads) for command, leads, _ in one.commands] == [("ip addr add", "1")]
    one.lead(False)
    one.lead(True)
    one.lead(False)
    assert len(one.commands) == 1, "the first one still runs"
    one.commands[0][2].callback((b"", b"", 0))
    assert [(command, leads) for command, leads, _ in one.commands[1:]] == [("ip addr del", "0")], (
        "only the last matters"
    )
    one.commands[1][2].callback((b"", b"cannot", 1))
    assert len(one.commands) == 2


def test_only_the_initial_leader_of_multi_paxos_may_skip_slots() -> None:  # [CH-13]
    members = (NodeId(1), NodeId(2), NodeId(3))
    check_skip_slots("multipaxos", members, NodeId(3))
    for engine, node, complaint in (("multipaxos", 1, "node 3"), ("epaxos", 3, "epaxos")):
        try:
            check_skip_slots(engine, members, NodeId(node))
        except SkipSlotsError as error:
            assert complaint in str(error)
        else:
            raise AssertionError(f"node {node} of {engine} may skip slots")
    assert parse_slots("1, 2,7") == {1, 2, 7}


def test_a_proposer_leaves_slots_out_until_it_is_deposed() -> None:  # [CH-13, scenario 4]
    proposer = Proposer(NodeId(3), 3, alpha=16)
    proposer.skips = frozenset({0, 3, 4})  # type: ignore[arg-type]
    proposer.prepare()
    for sender in (1, 3):
        proposer.handle_promise(Promise(NodeId(3), NodeId(sender), proposer.crnd, ()))  # type: ignore[arg-type]
    proposer.propose(Batch(b"\x01\x02\x03\x04", 4))
    accepts = proposer.take_accepts()
    assert [(accept.slot, accept.count, accept.values) for accept in accepts] == [
        (1, 2, b"\x01\x02"),
        (5, 2, b"\x03\x04"),
    ]
    proposer.depose()
    assert not proposer.skips
