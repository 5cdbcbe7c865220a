"""A front door: one address at which clients find the service, whoever leads. [AU-04, AV-15, AV-20, AV-21, TR-07]

Who leads is decided by consensus and by nothing else; the door follows. So a door that opens late, or twice, costs a
client a redirection and never a wrong answer.

- *Port takeover*, on one host: all nodes name the same service address, and whoever leads listens there. If it is still
  taken, the node tries again and again: taking a port is a lock, but not one that safety rests on.
- *Floating address*, on several: a command of the operator's is run when the node begins to lead (it adds the address
  to an interface and announces it), and another one when it leads no more. It stands on every node; the port is
  the node's own, so nodes listen on all addresses.
- The third door needs nothing of the nodes: clients that know the addresses of all of them.
"""

import os
import shlex
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger

from paxos_twisted.net.reactor import ListeningPort
from paxos_twisted.node.quantities import Address
from paxos_twisted.types import NodeId

LOOK_S: Final = 0.02
"""Time between two looks at who leads: a tick of the engine."""

log = Logger()


class FrontDoor(Service):
    """Opens the door while this node leads.

    Args:
        leads: whether the node leads now.
        service: where to listen; None: nowhere.
        listen: starts listening for clients there.
        on_lead, on_follow: shell commands; empty: none. They get PAXOS_NODE_ID and PAXOS_LEADS (1 or 0).
        run: starts a shell command with an environment and returns a Deferred of (stdout, stderr, exit code).
    """

    name = "front door"

    def __init__(
        self,
        clock: IReactorTime,
        node: NodeId,
        leads: Callable[[], bool],
        *,
        service: Address | None = None,
        listen: Callable[[Address], ListeningPort],
        on_lead: str = "",
        on_follow: str = "",
        run: Callable[[str, dict[str, str]], Any] | None = None,
    ) -> None:
        self.port: ListeningPort | None = None
        """The open door."""
        self.refused = 0
        """How often the address was taken when we wanted it."""
        self._node = node
        self._leads = leads
        self._service = service
        self._listen = listen
        self._on_lead = on_lead
        self._on_follow = on_follow
        self._run = run or _run_shell
        self._is_leading = False
        self._hook: Any = None  # the command that is running
        self._hooks_due: list[str] = []
        self._look = LoopingCall(self._follow_leader)
        self._look.clock = clock

    def startService(self) -> None:
        """Begin to look who leads."""
        super().startService()  # type: ignore[no-untyped-call]
        looking = self._look.start(LOOK_S, now=False)
        looking.addErrback(lambda failure: log.failure("the front door is stuck", failure))

    def stopService(self) -> Any:
        """Close the door, and let the address go."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._look.running:
            self._look.stop()
        if self._is_leading:
            self._change(False)
        return self._close()

    def _follow_leader(self) -> None:
        leads = self._leads()
        if leads is not self._is_leading:
            self._change(leads)
        if leads and self.port is None and self._service is not None:
            self._open(self._service)
        elif not leads and self.port is not None:
            self._close()

    def _open(self, service: Address) -> None:
        try:
            self.port = self._listen(service)
        except CannotListenError as error:
            if not self.refused:
                log.info(
                    "the service address {service} is taken: {error}", service=str(service), error=error.socketError
                )
            self.refused += 1
            return
        log.info("node {node} serves clients at {service}", node=self._node, service=str(service))

    def _close(self) -> Any:
        port, self.port = self.port, None
        if port is None:
            return None
        log.info("node {node} has left the service address", node=self._node)
        return port.stopListening()

    # The operator's commands: one at a time, in order; of several that wait only the last one matters.

    def _change(self, leads: bool) -> None:
        self._is_leading = leads
        command = self._on_lead if leads else self._on_follow
        self._hooks_due = [command] if command else []
        self._run_next()

    def _run_next(self) -> None:
        if self._hook is not None or not self._hooks_due:
            return
        command = self._hooks_due.pop()
        environment = os.environ | {"PAXOS_NODE_ID": str(self._node), "PAXOS_LEADS": str(int(self._is_leading))}
        self._hook = self._run(command, environment)
        self._hook.addCallbacks(
            lambda result: _tell(command, *result),
            lambda failure: log.failure("{command} failed", failure, command=command),
        )
        self._hook.addBoth(lambda _: self._hook_ended())

    def _hook_ended(self) -> None:
        self._hook = None
        self._run_next()


def _run_shell(command: str, environment: dict[str, str]) -> Any:
    return getProcessOutputAndValue("/bin/sh", ["-c", command], env=environment)  # type: ignore[no-untyped-call]


def _tell(command: str, out: bytes, err: bytes, code: int) -> None:
    said = (out + err).decode(errors="replace").strip()
    if code:
        log.error("{command} ended with {code}: {said}", command=shlex.quote(command), code=code, said=said)
    else:
        log.info("{command} has run: {said}", command=shlex.quote(command), said=said or "ok")
