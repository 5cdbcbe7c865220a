"""The three scenes of the course, with five real replicas: `paxos_twisted.cluster.course_replay`."""

import pytest

from paxos_twisted.cluster import course_replay

pytestmark = pytest.mark.integration


def test_every_scene_takes_the_path_that_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    code = course_replay.main()
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "replica 0 to 2, 3: PreAccept 0.0 deps (-1, -1, -1, -1, -1) seq 1" in shown
    assert shown.count("as expected") == 3
