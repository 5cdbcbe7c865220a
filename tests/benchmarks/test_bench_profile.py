"""Samples are given to the innermost part that has a name; waiting does not count."""

from pathlib import Path

from benchmarks.profile import OTHER, REACTOR, STORAGE, part_of, shares_of

MAIN = "thread (7): MainThread;mainLoop (twisted/internet/base.py:1)"
WRITER = "thread (8): store-1;SqliteStore._write_all (paxos_twisted/storage/sqlite_store.py:245)"


def test_the_innermost_named_frame_counts() -> None:
    stack = [MAIN, "flush (paxos_twisted/node/driver.py:3)", "find (paxos_twisted/core/sessions.py:4)", "len (x.py:1)"]
    assert part_of(stack) == "sessions"
    assert part_of(["main (somewhere.py:1)"]) == OTHER


def test_threads_are_told_apart_and_waiting_is_left_out(tmp_path: Path) -> None:
    lines = [
        f"{MAIN};flush (paxos_twisted/node/driver.py:3) 5",
        f"{MAIN};LeanReactor.doPoll (paxos_twisted/net/lean_reactor.py:55) 100",
        f"{WRITER} 100",
        f"{WRITER};SqliteStore._write (paxos_twisted/storage/sqlite_store.py:318) 7",
        f"{WRITER};Planner.plan (paxos_twisted/storage/transaction.py:80) 2",
    ]
    file = tmp_path / "samples"
    file.write_text("\n".join(lines) + "\n")
    shares = shares_of(file)
    assert shares[REACTOR] == {"driver": 5}
    assert shares[STORAGE] == {"SQLite": 7, "storage: planning, sealing, hand-over": 2}
