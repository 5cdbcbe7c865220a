"""What a node knows after a restart: the log read back into what it held, the view it obeyed, and the view log."""

from collections.abc import Sequence

import msgspec

from paxos_twisted.core.engine import DecidedRun
from paxos_twisted.core.primary_backup.held import Entry, HeldLog
from paxos_twisted.core.primary_backup.view import View
from paxos_twisted.core.records import (
    Chosen,
    Entered,
    Header,
    Held,
    LogRecord,
    Promised,
    Reached,
    ViewKept,
    ViewLog,
    Voted,
    is_about_views,
    unview_header,
)
from paxos_twisted.core.runs import Ranges, RunMap
from paxos_twisted.types import NO_SLOT, Slot

ENDLESS: Slot = 2**60
"""`Entered.stop` of a record that only repeats which view is obeyed."""


class Restored(msgspec.Struct):
    """The durable state of a node."""

    log: HeldLog
    decided: list[DecidedRun]
    """What follows the snapshot and is known to be committed, without a hole: to be applied again."""
    entered: View | None
    """The view that the node obeyed last."""
    lineage: list[tuple[int, Slot]]
    """(epoch, stop) of the views it obeyed."""
    view_kept: ViewKept | None
    """What the truncated part of the view log has led to."""
    view_records: list[LogRecord]
    """The records of the view log, for Multi-Paxos to restore itself from."""
    view_lost: list[Header]


def restore(entries: Sequence[LogRecord], lost: Sequence[Header], snapshot: Slot, applied: Slot) -> Restored:
    """Rebuild a node from its log. The arguments are those of `paxos_twisted.core.multipaxos.restore.restore`."""
    held: RunMap[Entry] = RunMap()
    chosen: RunMap[DecidedRun] = RunMap()
    mark = NO_SLOT
    entered: View | None = None
    lineage: list[tuple[int, Slot]] = []
    kept: ViewKept | None = None
    view_records: list[LogRecord] = []
    for record in entries:
        match record:
            case Held(epoch=epoch, slot=slot, count=count, values=values, adu=adu):
                held.put(Entry(slot, epoch, values, count))
                mark = max(mark, adu)
            case Chosen(slot=slot, count=count, values=values):
                # Written when the node had committed everything below: so this, too, is a mark.
                chosen.put(DecidedRun(slot, count, values))
                mark = max(mark, slot + count - 1)
            case Reached(adu=adu):
                mark = max(mark, adu)
            case Entered(epoch=epoch, members=members, nonce=nonce, stop=stop):
                if entered is None or epoch >= entered.epoch:
                    entered = View(epoch, members, nonce)
                if stop < ENDLESS:
                    lineage.append((epoch, stop))
                    if held.stop > stop:
                        held.remove(max(stop, mark + 1), max(held.stop, mark + 1))
            case ViewLog(record=inner):
                view_records.append(inner)
            case ViewKept():
                if kept is None or record.slot >= kept.slot:
                    kept = record
                view_records.append(Promised(record.rnd))
                view_records += [Voted(rnd, slot, count, body, record.slot) for slot, count, rnd, body in record.votes]
            case _:
                pass
    log = HeldLog()
    unknown = _unknown(held, lost, snapshot)
    decided: list[DecidedRun] = []
    log.adu = applied
    log.first = applied + 1
    if applied == snapshot:
        decided = _decided_after(applied, mark, held, chosen, unknown)
        if decided:
            log.adu = decided[-1].slot + decided[-1].count - 1
    for run in decided:
        log.entries.put(Entry(run.slot, 0, run.body, run.count))
    if held.stop > log.adu + 1:
        for entry in held.within(log.adu + 1, held.stop):
            log.entries.put(entry)
    if applied != snapshot:
        unknown.add(0, snapshot + 1)  # a peer has to send one
    for begin, stop in unknown:
        start = max(begin, log.adu + 1)
        if start < stop:
            # What stands there besides is older than what was lost.
            log.entries.remove(start, stop)
            log.damaged.add(start, stop)
    return Restored(
        log=log,
        decided=decided,
        entered=entered,
        lineage=lineage,
        view_kept=kept,
        view_records=view_records,
        view_lost=[unview_header(header) for header in lost if is_about_views(header)],
    )


def _unknown(held: RunMap[Entry], lost: Sequence[Header], snapshot: Slot) -> Ranges:
    """The slots above the snapshot of which something was written that cannot be read, and nothing newer can."""
    unknown = Ranges()
    for header in lost:
        stop = header.slot + header.count
        if is_about_views(header) or not header.count or stop <= snapshot + 1:
            continue
        slot = max(header.slot, snapshot + 1)
        while slot < stop:
            entry = held.at(slot)
            if entry is None:
                end = held.holes(slot, stop)[0][1]
                unknown.add(slot, end)
            else:
                end = min(entry.stop, stop)
                # Epochs in a slot only grow. A committed run that was fetched has none, and may be the newest.
                if entry.epoch < header.rnd or header.rnd < 0:
                    unknown.add(slot, end)
            slot = end
    return unknown


def _decided_after(
    applied: Slot, mark: Slot, held: RunMap[Entry], chosen: RunMap[DecidedRun], unknown: Ranges
) -> list[DecidedRun]:
    """The committed runs in (applied, mark] up to the first hole. What a peer told to be committed counts first."""
    decided: list[DecidedRun] = []
    slot = applied + 1
    while slot <= mark:
        run = chosen.at(slot)
        if run is not None:
            run = chosen.within(slot, min(run.slot + run.count, mark + 1))[0]
        else:
            entry = held.at(slot)
            if entry is None or slot in unknown:
                break
            stop = min(entry.stop, mark + 1)
            stop = chosen.holes(slot, stop)[0][1]
            stop = unknown.missing(slot, stop)[0][1]
            entry = held.within(slot, stop)[0]
            run = DecidedRun(entry.slot, entry.count, entry.body)
        decided.append(run)
        slot = run.slot + run.count
    return decided
