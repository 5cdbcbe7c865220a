"""The applications by the name that the cluster configuration gives them."""

from collections.abc import Callable

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.auction import AuctionHouse
from paxos_twisted.apps.bank import Bank
from paxos_twisted.apps.chat import Chat
from paxos_twisted.apps.kv import KeyValueStore

APPLICATIONS: dict[str, Callable[[], Application]] = {
    "bank": Bank,
    "kv": KeyValueStore,
    "chat": Chat,
    "auction": AuctionHouse,
}
