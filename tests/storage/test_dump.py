"""What a person sees who looks into a data directory."""

import shutil
from pathlib import Path

import pytest
from stores import CLUSTER, NODE, Store, new_store, snapshot, voted

from paxos_twisted.core.records import Chosen, PeerSeen, Promised, Reached
from paxos_twisted.storage.directory import PROOF, WAL, create
from paxos_twisted.storage.dump import main
from paxos_twisted.types import NodeId


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of a node that was killed."""
    store = new_store(tmp_path / "live")
    store.write(Promised(3001), voted(0), Chosen(10, 1, b"x"), Reached(10), PeerSeen(NodeId(2), "5eed", 7))
    store.write(*snapshot(5))
    shutil.copytree(tmp_path / "live", tmp_path / "data")
    store.close()
    return tmp_path / "data"


def test_a_whole_log(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {entry.name: entry.read_bytes() for entry in directory.iterdir()}
    assert main([str(directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["cluster    demo", "node       1"]
    assert lines[4] == "log        5 records are kept: 1 to 5"
    assert lines[5].startswith("snapshot   of slot 5, 2 pieces, ")
    assert lines[6:] == [
        "finding    none: all is well",
        "rows       5",
        "         1 promised  round 3001",
        "         2 voted     round 3001, slots 0 to 9, 30 bytes, decided up to -1",
        "         3 chosen    slot 10, 1 bytes",
        "         4 reached   decided up to 10",
        "         5 peerseen  node 2, identity 5eed, had written record 7",
    ]
    assert {entry.name: entry.read_bytes() for entry in directory.iterdir()} == before


def test_an_empty_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(tmp_path, CLUSTER, NODE)
    assert main([str(tmp_path)]) == 0
    assert "log        empty\n" in capsys.readouterr().out


def test_only_the_last_rows(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(directory), "--tail", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["rows       5", "         5 peerseen  node 2, identity 5eed, had written record 7"]


def test_a_finding_has_its_own_exit_code(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / PROOF).write_bytes(b"rot")
    assert main([str(directory)]) == 1
    assert "finding    the proof file 'durable' has a wrong checksum" in capsys.readouterr().out


def test_a_log_that_would_be_refused_is_shown_all_the_same(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / PROOF).unlink()
    assert main([str(directory)]) == 2
    out = capsys.readouterr().out
    assert "refused    the proof file 'durable' is missing" in out
    assert "         1 promised  round 3001" in out


@pytest.mark.parametrize("name", ["nothing", "directory", "file"])
def test_what_is_no_log_is_said_to_be_none(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    if name == "directory":
        path.mkdir()
    elif name == "file":
        path.mkdir()
        (path / "node.db").write_bytes(b"not a database" * 1000)
    assert main([str(path)]) == 2
    out = capsys.readouterr().out
    assert out.startswith("refused    ")
    assert str(tmp_path) in out or "node.db" in out


def test_damage_in_the_write_ahead_file(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wal = bytearray((directory / WAL).read_bytes())
    wal[32 + 24 + 5] ^= 1
    (directory / WAL).write_bytes(wal)
    assert main([str(directory)]) == 2
    assert "refused    frame 1 of the write-ahead file node.db-wal is damaged" in capsys.readouterr().out


def test_a_running_node_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(tmp_path, CLUSTER, NODE)
    store = Store(tmp_path)
    store.open()
    assert main([str(tmp_path)]) == 2
    assert "is in use by process" in capsys.readouterr().err
    store.close()
