"""The applications by the name that the cluster configuration gives them."""

from collections.abc import Callable

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.bank import Bank

APPLICATIONS: dict[str, Callable[[], Application]] = {"bank": Bank}
