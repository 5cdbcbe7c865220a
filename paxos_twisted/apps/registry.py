"""The applications by the name that the cluster configuration gives them."""

from collections.abc import Callable

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.auction import AuctionHouse
from paxos_twisted.apps.bank import Bank
from paxos_twisted.apps.chat import Chat

APPLICATIONS: dict[str, Callable[[], Application]] = {"bank": Bank, "chat": Chat, "auction": AuctionHouse}
