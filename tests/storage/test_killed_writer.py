"""kill -9 in the middle of commits, again and again: every acknowledged record is there afterwards. [DUR]"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import killed_writer
import pytest
from stores import CLUSTER, NODE, recovered_from

from paxos_twisted.storage.directory import create


@pytest.mark.integration
def test_every_acknowledged_record_survives_kill_9(tmp_path: Path) -> None:
    create(tmp_path, CLUSTER, NODE)
    acknowledged = 0
    for round_no in range(8):
        process = subprocess.Popen(
            [sys.executable, killed_writer.__file__, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ}
        )
        assert process.stdout is not None
        wanted = acknowledged + 1 + 97 * round_no
        try:
            for line in process.stdout:
                acknowledged = int(line)
                if acknowledged >= wanted:
                    break
        finally:
            os.kill(process.pid, signal.SIGKILL)
            for line in process.stdout.read().split():  # what it said before the signal arrived
                acknowledged = int(line)
            process.stdout.close()
            assert process.wait() == -signal.SIGKILL
        recovered = recovered_from(tmp_path)
        assert recovered.findings == []
        assert recovered.last_seq >= acknowledged
        kept = range(recovered.last.first, recovered.last_seq + 1)
        assert recovered.records == [killed_writer.record_of(seq) for seq in kept]
    assert recovered.last.first > killed_writer.SNAPSHOT_EVERY
    assert recovered.snapshot is not None
