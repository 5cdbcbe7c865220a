"""The machine image: a bare Debian, made once with debootstrap and kept outside the repository.

Nothing of ours is in it: it is what a person finds on a freshly installed server with ssh. The playbooks do the rest.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab.host import remove_tree, run, stream
from lab.plan import CACHE, LOGIN

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"

PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "python3-venv",
    "sudo",
    "systemd-sysv",
)

MASKED = (
    # Nobody sits at these consoles, and nothing may take apt's lock or the disk behind our back while we measure.
    "console-getty.service",
    "getty@.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
)

RECIPE = 2
"""Raise it when the steps below change: the old image is then made anew."""


def image_path(suite: str = SUITE, mirror: str = MIRROR) -> Path:
    """Where the image is or will be; another recipe gives another place."""
    text = "\n".join([str(RECIPE), suite, mirror, *PACKAGES, *MASKED])
    return CACHE / f"{suite}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def ensure_image(
    say: Callable[[str], object], suite: str = SUITE, mirror: str = MIRROR, security_mirror: str = SECURITY_MIRROR
) -> Path:
    """Return the image, making it if needed. An interrupted one is thrown away.

    Raises:
        LabError: debootstrap failed, usually because the mirror cannot be reached.
    """
    image = image_path(suite, mirror)
    if image.is_dir():
        return image
    CACHE.mkdir(parents=True, exist_ok=True)
    for leftover in CACHE.glob("unfinished-*"):
        remove_tree(leftover)
    say(f"making the machine image {image} (once; a minute or two)")
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=CACHE))
    try:
        root = unfinished / "root"
        include = ",".join(PACKAGES)
        log = CACHE / "debootstrap.log"
        log.unlink(missing_ok=True)
        stream(["debootstrap", "--variant=minbase", f"--include={include}", suite, root, mirror], log)
        _furnish(root, suite, mirror, security_mirror)
        root.rename(image)
    finally:
        remove_tree(unfinished)
    return image


def _furnish(root: Path, suite: str, mirror: str, security_mirror: str) -> None:
    (root / "etc/apt/sources.list").write_text(
        f"deb {mirror} {suite} main\ndeb {mirror} {suite}-updates main\ndeb {security_mirror} {suite}-security main\n"
    )
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    # Logs must outlive a power cut.
    (root / "var/log/journal").mkdir(exist_ok=True)
    run("chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", LOGIN)
    sudoers = root / "etc/sudoers.d" / LOGIN
    sudoers.write_text(f"{LOGIN} ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    # These must differ from machine to machine: each makes its own.
    for name in ("etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    run("chroot", root, "chown", "_apt:root", "/var/cache/apt/archives/partial")
    os.sync()


def remove_images(say: Callable[[str], object]) -> None:
    """Remove all cached images."""
    if CACHE.is_dir():
        remove_tree(CACHE)
        say(f"{CACHE} is removed")
