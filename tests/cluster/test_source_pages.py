"""The pages about our sources: what they say to type works, word for word. [CV-50]"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.glob("from-the-*.md"))
PROGRAMS = {
    "paxosctl": "paxos_twisted.ctl.main",
    "paxosnode": "paxos_twisted.node.options",
    "paxoscluster": "paxos_twisted.cluster.main",
    "bankclient": "paxos_twisted_client.bankclient",
    "chatclient": "paxos_twisted_client.chatclient",
    "auctionclient": "paxos_twisted_client.auctionclient",
}
LIMIT_S = 120
BLOCKS = [
    pytest.param(block, id=f"{page.stem} {number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```sh run\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL), 1)
]


def test_there_is_a_page_for_each_source() -> None:
    names = {page.stem for page in PAGES}
    assert names >= {"from-the-lab", "from-the-chat", "from-the-leader-auction", "from-the-standby-auction"}


@pytest.mark.integration
@pytest.mark.parametrize("block", BLOCKS)
def test_what_the_page_says_works(block: str, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in PROGRAMS.items():
        program = folder / name
        program.write_text(f"#!{sys.executable}\nfrom {module} import main\nmain()\n")
        program.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PAXOS_")}
    # Job control, as at a prompt, for %1; at the end nothing of ours is left.
    script = "set -em\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n" + block
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=clean | {"PATH": f"{folder}:{os.environ['PATH']}", "PAXOS_TIMEOUT": "60s"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    logs = "".join(f"\n--- {log.name}\n{log.read_text()[-600:]}" for log in sorted(tmp_path.glob("*.log")))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}{logs}"
