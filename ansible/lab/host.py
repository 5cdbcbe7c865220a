"""The machine that the lab runs on: its commands, what it lacks, its mounts and processes."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.plan import RUN, LabError

PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
}
"""Commands that we call, and the Debian packages that bring them."""


def demand(*, root: bool = True) -> None:
    """Check that we may and can.

    Raises:
        LabError: we are not root, this is no Linux, or packages are missing; it says which.
    """
    if sys.platform != "linux":
        raise LabError("the virtual lab needs Linux (namespaces, nspawn); on other systems use real machines")
    problems = []
    if root and os.geteuid() != 0:
        problems.append(f"it needs root, for namespaces, mounts and firewall rules; type: sudo {' '.join(sys.argv)}")
    missing = sorted({package for command, package in PACKAGES.items() if not find(command)})
    if missing:
        problems.append(
            f"these Debian packages are missing: {' '.join(missing)}; "
            f"type: sudo apt-get install --no-install-recommends {' '.join(missing)}"
        )
    if root and not problems and not may_make_namespaces():
        problems.append(
            "this machine does not let root make namespaces (is it a container?); use a real or a virtual machine"
        )
    if problems:
        raise LabError("\n".join(problems))


def may_make_namespaces() -> bool:
    """Whether the kernel lets us. Root of a container usually may not."""
    return subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False).returncode == 0


def find(command: str) -> str | None:
    """Where a command is, also for users whose PATH leaves out the administrators' folders."""
    return shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")


def has_systemd() -> bool:
    """Whether this machine is run by systemd: then it, not we, hands out control groups."""
    return Path("/run/systemd/system").is_dir()


def run(*command: str | Path, text: str | None = None, check: bool = True) -> str:
    """Run a command and return what it printed.

    Raises:
        LabError: it failed (with `check`), with its last words.
    """
    words = [str(word) for word in command]
    words[0] = find(words[0]) or words[0]
    done = subprocess.run(words, input=text, text=True, capture_output=True, check=False)
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise LabError(f"{' '.join(map(str, command))} failed with {done.returncode}: {' | '.join(said)}")
    return done.stdout


def stream(command: Sequence[str | Path], log: Path) -> None:
    """Run a long command with its output in a file.

    Raises:
        LabError: it failed.
    """
    words = [str(word) for word in command]
    words[0] = find(words[0]) or words[0]
    with log.open("ab") as file:
        code = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False).returncode
    if code:
        lines = log.read_text(errors="replace").splitlines()[-5:]
        raise LabError(f"{words[0]} failed with {code}; {log} ends with:\n  " + "\n  ".join(lines))


@contextmanager
def exclusive() -> Iterator[None]:
    """Only one `up` or `down` at a time.

    Raises:
        LabError: another one is under way.
    """
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (RUN / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("another paxoslab is at work; wait for it to end") from None
        yield


def mounts_below(folder: Path) -> list[Path]:
    """Mount points at or below a folder, the innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point == folder or folder in point.parents:
            found.append(point)
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def unmount_below(folder: Path) -> None:
    """Unmount everything at or below a folder."""
    for point in mounts_below(folder):
        run("umount", "--lazy", point, check=False)


def remove_tree(folder: Path) -> None:
    """Remove a folder, after everything that is mounted in it.

    Raises:
        LabError: something is still mounted: what is behind a mount is never deleted.
    """
    unmount_below(folder)
    left = mounts_below(folder)
    if left:
        raise LabError(f"{left[0]} cannot be unmounted; is a shell standing in it? (fuser -m {left[0]})")
    if folder.exists():
        shutil.rmtree(folder)
