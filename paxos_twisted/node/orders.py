"""What an operator may order a running node to do: POST /admin/…"""

import random
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from paxos_twisted.net.faults import FaultLayer, format_rule, read_request
from paxos_twisted.node.assemble import Parts
from paxos_twisted.node.http import Action, Refusal
from paxos_twisted.node.inputs import Inputs

log = Logger()


class Orders:
    """The admin actions of a node.

    Args:
        parts: the node's parts, or None while it is not running.
    """

    def __init__(self, inputs: Inputs, parts: Callable[[], Parts | None]) -> None:
        self._inputs = inputs
        self._parts = parts

    def actions(self) -> dict[str, Action]:
        """By the name in the path."""
        return {"snapshot": self.snapshot, "handover": self.handover, "fault": self.fault}

    def snapshot(self, order: dict[str, Any]) -> dict[str, Any]:
        """Take a snapshot now. It is durable when /status shows a slot at or above the one answered here."""
        driver = self._running(order).driver
        self._inputs.call(driver.take_snapshot)
        return {"slot": driver.state.applied}

    def handover(self, order: dict[str, Any]) -> dict[str, Any]:
        """Give up leadership, so that another node takes it.

        Raises:
            Refusal: this node does not lead.
        """
        driver = self._running(order).driver
        if driver.leader != driver.node:
            raise Refusal(f"node {driver.node} does not lead" + _whoever(driver.leader))
        self._inputs.call(self._resign)
        log.info("leadership was given up, as ordered")
        return {"resigned": driver.node}

    def fault(self, order: dict[str, Any]) -> dict[str, Any]:
        """Put the message-fault layer in, or take it out (no rules).

        Raises:
            FaultError: the rules make no sense.
        """
        links = self._running({}).links
        kinds = [kind.__name__ for kind in links.kinds]
        seed, rules = read_request(order, links.local.members, kinds)
        links.set_faults(FaultLayer(rules, random.Random(seed), links.now_ms()) if rules else None)
        texts = [format_rule(rule) for rule in rules]
        log.warn("message faults, as ordered: {rules} (seed {seed})", rules="; ".join(texts) or "none", seed=seed)
        return {"rules": texts, "seed": seed}

    def _resign(self) -> None:
        driver = self._inputs.driver
        driver.engine.resign("asked")
        driver.shell.flush_soon()

    def _running(self, order: dict[str, Any]) -> Parts:
        if order:
            raise ValueError(f"this order takes no {', '.join(map(repr, sorted(order)))}")
        parts = self._parts()
        if parts is None or self._inputs.is_stopped:
            raise Refusal("the node is not running")
        return parts


def _whoever(leader: int) -> str:
    return f"; node {leader} does" if leader > 0 else ", and knows nobody who does"
