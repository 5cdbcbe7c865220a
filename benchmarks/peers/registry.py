"""All systems, by name."""

from benchmarks.peers.etcd import Etcd
from benchmarks.peers.ours import Ours, OursKv
from benchmarks.peers.pysyncobj import (
    PySyncObjInside,
    PySyncObjJournal,
    PySyncObjMemory,
    PySyncObjMemoryInside,
    PySyncObjSynced,
)
from benchmarks.peers.system import System
from benchmarks.peers.zookeeper import ZooKeeper

ALL: dict[str, type[System]] = {
    system.name: system
    for system in (
        Ours,
        OursKv,
        Etcd,
        ZooKeeper,
        PySyncObjSynced,
        PySyncObjMemory,
        PySyncObjJournal,
        PySyncObjInside,
        PySyncObjMemoryInside,
    )
}
