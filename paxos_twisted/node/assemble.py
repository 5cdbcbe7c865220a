"""Makes the parts of a node from what its log held, and joins them."""

import os
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from paxos_twisted.apps.application import Application
from paxos_twisted.core.engine import Engine, LinkState
from paxos_twisted.core.multipaxos.replica import MultiPaxos
from paxos_twisted.core.records import PeerSeen
from paxos_twisted.core.registry import ENGINES
from paxos_twisted.core.replicated import ReplicatedState
from paxos_twisted.core.transfer import TransferMessage
from paxos_twisted.net.clients import ClientPort
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.delay import AnswerDelay
from paxos_twisted.net.faults import FaultLayer, Rule
from paxos_twisted.net.greeting import LocalNode
from paxos_twisted.net.peers import PeerLinks
from paxos_twisted.net.transport import Sockets
from paxos_twisted.node.application_metrics import application_group
from paxos_twisted.node.applied_log import AppliedLog
from paxos_twisted.node.config import Config
from paxos_twisted.node.driver import Driver, Shell
from paxos_twisted.node.engine_metrics import engine_group
from paxos_twisted.node.extras import NO_EXTRAS, Extras
from paxos_twisted.node.inputs import Inputs
from paxos_twisted.node.message_trace import MessageTrace
from paxos_twisted.node.metrics import Metrics
from paxos_twisted.node.observe import Durations, Events
from paxos_twisted.node.proposer_time import ProposerTime
from paxos_twisted.node.state_hash import StateHasher
from paxos_twisted.storage.recovery import Recovered
from paxos_twisted.storage.sqlite_store import SqliteStore
from paxos_twisted.types import NO_SLOT, NodeId


class Parts(NamedTuple):
    """What a node consists of once its log has been read."""

    driver: Driver
    links: PeerLinks
    clients: ClientPort
    hasher: StateHasher


def message_type(config: Config) -> Any:
    """The union of all messages between the nodes of this cluster."""
    return ENGINES[config.shared.engine].message_type | TransferMessage


def assemble(
    *,
    config: Config,
    node: NodeId,
    application: Application,
    recovered: Recovered,
    store: SqliteStore,
    inputs: Inputs,
    shell: Shell,
    sockets: Sockets,
    connections: Connections,
    metrics: Metrics,
    events: Events,
    on_link: Callable[[NodeId, LinkState], None],
    extras: Extras = NO_EXTRAS,
) -> Parts:
    """Make and join the parts. Nothing is sent or dialled yet.

    Raises:
        SnapshotError: the snapshot does not decode, though its digest is right: it is of another version.
    """
    shared = config.shared
    kind = ENGINES[shared.engine]
    state = ReplicatedState(application, shared.session_expiry, is_ordered=kind.is_ordered)
    applied = NO_SLOT
    if recovered.snapshot is not None:
        applied = recovered.snapshot.slot
        state.install(applied, recovered.pieces, recovered.snapshot.digest)
    engine: Engine = kind.make(
        node,
        config.members,
        shared.settings,
        random.Random(os.urandom(16)),
        recovered.records,
        recovered.lost,
        recovered.last.snapshot,
        applied,
        application=application,
        part=state.engine_part,
    )
    local = LocalNode(
        node=node,
        members=config.members,
        cluster=shared.cluster,
        application=shared.application,
        settings=shared.digest(),
        identity=recovered.identity,
        secret=config.secret.reveal() if config.secret is not None else "",
    )
    links = PeerLinks(
        local=local,
        addresses={peer.id: (peer.address.host, peer.address.port) for peer in config.nodes if peer.id != node},
        message_type=message_type(config),
        sockets=sockets,
        connections=connections,
        receive=inputs.on_message,
        on_link=on_link,
        progress=lambda: store.durable_seq,
        guard=inputs.peer_guard,
        check_identity=inputs.check_identity,
        rng=random.Random(os.urandom(16)),
    )
    clients = ClientPort(
        local=local,
        application=application,
        addresses=config.addresses,
        connections=connections,
        requests=inputs,
        applied=lambda: state.birth,
        metrics=metrics,
        delay=_answer_delay(extras, application, connections),
    )
    _apply_test_settings(extras, engine, links, recovered)
    own = engine_group(engine, metrics.labels)
    if own is not None:
        metrics.collector.groups.append(own)
        metrics.collector.before.append(own.refresh)
    group = application_group(application, metrics.labels)
    if group is not None:
        metrics.collector.groups.append(group)
        metrics.collector.before.append(group.refresh)
    inputs.driver = Driver(
        node=node,
        engine=engine,
        state=state,
        disk=store,
        network=links,
        clients=clients,
        shell=shell,
        addresses=config.addresses,
        snapshot_every=shared.snapshot_every,
        snapshot=recovered.snapshot,
        last_record=recovered.last_seq,
        peers={record.node: record for record in recovered.records if isinstance(record, PeerSeen)},
        meter=Durations(metrics, events),
        clock=time.perf_counter,
        time=ProposerTime(application, lambda: time.time_ns() // 1_000_000, random.Random(os.urandom(16))),
        feeds=clients.feeds,
        on_applied=None if extras.applied_log is None else AppliedLog(extras.applied_log).on_applied,
    )
    return Parts(inputs.driver, links, clients, StateHasher(connections.clock, state, lambda: inputs.driver.coverage))


def _answer_delay(extras: Extras, application: Application, connections: Connections) -> AnswerDelay | None:
    if not extras.answer_delay_ms or not application.waiting_operations:
        return None
    return AnswerDelay(connections.clock, extras.answer_delay_ms / 1000, application.waiting_operations)


def _apply_test_settings(extras: Extras, engine: Engine, links: PeerLinks, recovered: Recovered) -> None:
    if extras.trace != "off":
        links.trace = MessageTrace(extras.trace)
    if extras.loss:
        rule = Rule(loss=extras.loss)
        links.set_faults(FaultLayer((rule,), random.Random(os.urandom(16)), links.now_ms()))
    if extras.skip_slots and isinstance(engine, MultiPaxos) and not recovered.last_seq:
        engine.proposer.skips = extras.skip_slots
