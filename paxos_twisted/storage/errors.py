"""Why a node's storage cannot be opened or used. Each message is a sentence for the person who runs the node."""

from collections.abc import Sequence


class StoreError(Exception):
    """The storage cannot be opened or used."""


class RotError(StoreError):
    """One sealed row is not what was written there: bits have changed, or it belongs to another place."""


class StorageCorrupt(StoreError):
    """It cannot be told what this node has promised and voted, so it must not start. Treat it as a lost disk.

    [Protocol-Aware Recovery, section 3.3; docs/log-format.md]
    """

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = tuple(findings)


class StoreMissing(StoreError):
    """The data directory holds no log: a first start (which is explicit), or a lost disk."""


class StoreForeign(StoreError):
    """The data directory belongs to another cluster, another node, or another format of this program."""


class StoreNotEmpty(StoreError):
    """A first start was asked for, but there is something in the data directory already."""


class StoreLocked(StoreError):
    """Another process uses the data directory."""


class StoreOverflow(StoreError):
    """More was submitted than WRITES_QUEUED_BYTES_MAX lets wait for the disk: the caller did not look at it."""
