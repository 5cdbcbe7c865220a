"""The image is built, and its entry point started, as far as this machine allows: buildah in a chroot, no registry.

The base is the virtual lab's Debian image. Takes about a minute.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paxos_twisted.cluster.ports import free_ports

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BASES = Path(os.environ.get("PAXOSLAB_CACHE", "/var/cache/paxos-lab"))
TARGET = "bookworm's Python 3.11"


class Buildah:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.program = ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run")]

    def __call__(self, *words: str, timeout_s: float = 60) -> str:
        done = subprocess.run(
            [*self.program, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    def run(self, container: str, *words: str) -> str:
        return self("run", "--isolation", "chroot", container, "--", *words)


def base() -> Path:
    """The root file system of a Debian with Python, or a sentence about why there is none."""
    if os.geteuid() != 0:
        pytest.skip("only root may build an image here")
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed (Debian: apt-get install buildah)")
    if sys.version_info[:2] != (3, 11):
        pytest.skip(f"the wheels of this Python do not fit {TARGET}")
    found = sorted(BASES.glob("bookworm-*/usr/bin/python3"))
    if not found:
        pytest.skip(f"no Debian image is in {BASES}: `ansible/paxoslab up` makes one")
    return found[0].parents[2]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """With the image `paxosnode`, built without an index of Python packages."""
    system = base()
    folder = tmp_path_factory.mktemp("buildah")
    context = tmp_path_factory.mktemp("context")
    for name in ("pyproject.toml", "README.md", "LICENSE", "paxos_twisted", "client", ".dockerignore"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, context / name)
    shutil.copytree(ROOT / "docker", context / "docker")
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(context / "docker" / "wheels")]
    done = subprocess.run([*wheel, str(ROOT), "hatchling"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the wheels for the image cannot be had: {done.stderr.strip().splitlines()[-1]}")
    made = Buildah(folder)
    try:
        start = made("from", "scratch")
        mounted = Path(made("mount", start))
        subprocess.run(["cp", "-a", "--reflink=auto", f"{system}/.", str(mounted)], check=True)
        made("umount", start)
        made("commit", "--quiet", start, "localhost/base", timeout_s=300)
        words = ["--isolation=chroot", "--network=host", "--build-arg", "BASE=localhost/base"]
        words += ["--build-arg", "PIP_NO_INDEX=1", "--format", "docker", "--tag", "paxosnode"]
        made("bud", *words, "--file", str(context / "docker" / "Dockerfile"), str(context), timeout_s=600)
        yield made
    finally:
        made("umount", "--all")
        made("rm", "--all")
        made("rmi", "--all", "--force")


def test_the_image_says_what_it_is(buildah: Buildah) -> None:
    config = json.loads(buildah("inspect", "--type", "image", "paxosnode"))["Docker"]["config"]
    assert config["Entrypoint"] == ["paxosnode"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert list(config["Volumes"]) == ["/var/lib/paxosnode"]


def test_options_are_appended_to_the_entry_point(buildah: Buildah) -> None:
    container = buildah("from", "paxosnode")
    config = json.loads(buildah("inspect", "--type", "image", "paxosnode"))["Docker"]["config"]
    assert buildah.run(container, *config["Entrypoint"], "--version").startswith("paxosnode ")
    assert buildah.run(container, "bankclient", "--version").startswith("bankclient")


def test_a_prepared_node_starts_is_healthy_and_stops(buildah: Buildah, tmp_path: Path) -> None:
    """As the image's user, with the image's health check. One node is a cluster here: the others are its copies."""
    container, another = buildah("from", "paxosnode"), buildah("from", "paxosnode")
    config = json.loads(buildah("inspect", "--type", "image", "paxosnode"))["Docker"]["config"]
    port, http = free_ports(2)
    etc = tmp_path / "etc"
    etc.mkdir()
    node = f"- {{id: 1, address: 127.0.0.1:{port}, http: 127.0.0.1:{http}, data_dir: /var/lib/paxosnode/data}}"
    (etc / "cluster.yml").write_text(f"cluster: image\napplication: bank\nnodes:\n  {node}\n")
    run = [*buildah.program, "run", "--isolation", "chroot", "--env", f"PAXOS_HTTP_PORT={http}"]
    run += ["--volume", f"{etc}:/etc/paxosnode:ro"]
    command = [*run, container, "--", *config["Entrypoint"], "--node-id", "1", "--first-start"]
    log = tmp_path / "node.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as shell,
    ):
        try:
            deadline = time.monotonic() + 60
            check = [*run, another, "--", *config["Healthcheck"]["Test"][1:]]
            while subprocess.run(check, capture_output=True, check=False).returncode != 0:
                assert time.monotonic() < deadline and shell.poll() is None, log.read_text()
                time.sleep(0.2)
            said = subprocess.run(
                [*run, another, "--", "bankclient", "deposit", "1", "5"], capture_output=True, text=True, check=False
            )
            assert (said.returncode, said.stdout) == (0, "account 1: balance 5\n"), said.stderr
            assert subprocess.check_output([*run, another, "--", "id", "-u"], text=True) == "10001\n"
            (pid,) = _children(shell.pid, "paxosnode")
            os.kill(pid, 15)
            shell.wait(30)  # not 0: at its end the node dies of the signal, as Twisted wants it
        finally:
            for pid in _children(shell.pid, "paxosnode"):
                os.kill(pid, 9)
            shell.kill()
    text = log.read_text()
    assert "node 1 stops" in text
    assert "Server Shut Down" in text


def _children(pid: int, word: str) -> list[int]:
    """Descendants of a process whose command names `word` and that have no children of their own."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            below = _children(int(child), word)
            found += below
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if not below and word in command:
                found.append(int(child))
    return found
