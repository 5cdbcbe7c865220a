"""What a replica knows after a restart: its log read back into instances.

A replica that has lost a vote, or a ballot that it joined, must not go on: it could vote a second time, otherwise.
Nobody could heal it, because nobody knows what it had answered. So it refuses to start, and is set up anew under
another id. Decisions can be lost: others know them, too.
"""

from collections.abc import Sequence

from paxos_twisted.core.engine import LogDamaged
from paxos_twisted.core.epaxos.acceptor import Acceptor
from paxos_twisted.core.epaxos.instance import Instance
from paxos_twisted.core.epaxos.messages import COMMITTED, EXECUTED, NONE
from paxos_twisted.core.epaxos.part import Part
from paxos_twisted.core.records import Cell, Decisions, Header, LogRecord, Vowed
from paxos_twisted.types import Slot


def check_usable(lost: Sequence[Header], snapshot: Slot, applied: Slot) -> None:
    """Check that nothing is lost that cannot be had from others.

    Raises:
        LogDamaged: with a sentence for people.
    """
    if snapshot != applied:
        raise LogDamaged(
            f"the snapshot of slot {snapshot} cannot be read, and with it is lost which instances this replica has "
            "answered for: under its old id it must not take part any more"
        )
    votes = sum(header.count > 0 for header in lost)
    if votes:
        raise LogDamaged(
            f"{votes} records cannot be read in which this replica had written down what it answered to others: under "
            "its old id it must not take part any more"
        )


def restore(acceptor: Acceptor, entries: Sequence[LogRecord], part: Part | None) -> list[Instance]:
    """Fill the (empty) grid and index of `acceptor` from the log.

    Returns:
        The instances that are committed and not executed.
    """
    grid, index = acceptor.grid, acceptor.index
    if part is not None:
        for column, prefix, above, highest in zip(
            grid.columns, part.executed.prefix, part.executed.above, part.highest, strict=True
        ):
            column.executed, column.above, column.top = prefix, set(above), highest
        index.merge(part.index)
    for entry in entries:
        match entry:
            case Cell():
                _restore_cell(acceptor, entry)
            case Decisions():
                for replica, slot, seq, is_noop, deps in entry.cells:
                    instance = grid.get(replica, slot)
                    if instance is not None and instance.status < COMMITTED:
                        _decide(instance, deps, seq, is_noop)
            case Vowed():
                index.promise(entry.deps)
            case _:
                pass
    ready: list[Instance] = []
    for instance in list(grid):
        if grid.is_executed(instance.replica, instance.slot):
            if instance.status == COMMITTED and (instance.body or instance.is_noop):
                instance.status = EXECUTED
            else:  # the snapshot has it, but what was decided about it does not stand here
                del grid.columns[instance.replica].cells[instance.slot]
        else:
            index.add(instance.replica, instance.slot, max(instance.seq, instance.init_seq), instance.access)
            if instance.status == COMMITTED:
                ready.append(instance)
        for replica, slot in enumerate(instance.deps):
            column = grid.columns[replica]
            column.top = max(column.top, slot)
    return ready


def _restore_cell(acceptor: Acceptor, cell: Cell) -> None:
    column = acceptor.grid.columns[cell.replica]
    instance = column.cells.get(cell.slot)
    if instance is None:
        instance = column.cells[cell.slot] = Instance(cell.replica, cell.slot)
        column.top = max(column.top, cell.slot)
    if cell.values:
        access = acceptor.access_of(cell.values, cell.count)
        if access is None:
            raise LogDamaged(f"the commands of instance {cell.replica}.{cell.slot} in the log cannot be read")
        instance.body, instance.count, instance.access = cell.values, cell.count, access
        instance.is_body_written = True
    if instance.written_at is None:
        instance.written_at = cell.at
    instance.bal = max(instance.bal, cell.bal)
    if instance.status < COMMITTED:
        instance.status = max(cell.status, NONE)
        instance.vbal = cell.vbal
        instance.deps, instance.seq, instance.is_noop = cell.deps, cell.seq, cell.is_noop
    if cell.init_deps is not None:
        instance.init_deps, instance.init_seq = cell.init_deps, cell.init_seq


def _decide(instance: Instance, deps: tuple[int, ...], seq: int, is_noop: bool) -> None:
    if is_noop or instance.body:
        instance.deps, instance.seq, instance.is_noop = deps, seq, is_noop
        instance.status = COMMITTED
