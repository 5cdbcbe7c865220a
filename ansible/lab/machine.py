"""One machine: its disks, its boot, its sudden death.

A machine is systemd-nspawn in a network namespace, watched by a small process of ours, the keeper, which starts it
again when it reboots. `power_cut` takes the cable away and kills everything with SIGKILL: silence, as when the plug is
pulled. What the machine had written but not synced survives in the host's memory, so this tests sudden silence, not
lost writes (the simulator does that).
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from lab import cgroups, network
from lab.host import find, has_systemd, remove_tree, run
from lab.plan import CACHE, LOGIN, LabError, Machine

BOOT_S = 90.0
"""A boot takes 5 to 10 s on an idle host."""

REBOOT_CODE = 133
"""How systemd-nspawn ends when the machine inside wants to reboot."""

NSPAWN = Path("/run/systemd/nspawn")
"""What nspawn keeps for its machines."""

DEBS = "var/cache/apt/archives"


def make_disks(machine: Machine, image: Path, data_mb: int, public_key: str) -> None:
    """Make the root disk (a layer over the shared image) and the data disk, and give the machine its own name and keys.

    Raises:
        LabError: a command failed.
    """
    machine.folder.mkdir(parents=True, exist_ok=True)
    if not machine.data_image.exists():
        unfinished = machine.folder / "data.new"
        run("truncate", "--size", f"{data_mb}M", unfinished)
        run("mkfs.ext4", "-q", "-m", "0", "-L", "data", unfinished)
        unfinished.rename(machine.data_image)
    mount_disks(machine, image)
    _personalise(machine, public_key)


def mount_disks(machine: Machine, image: Path) -> None:
    """Mount what is not mounted."""
    upper, work = machine.folder / "upper", machine.folder / "work"
    for folder in (upper, work, machine.root, machine.data):
        folder.mkdir(exist_ok=True)
    if not machine.root.is_mount() and not any(machine.root.iterdir()):
        layers = f"lowerdir={image},upperdir={upper},workdir={work}"
        try:
            run("mount", "-t", "overlay", machine.unit, "-o", layers, machine.root)
        except LabError:  # a kernel without overlayfs, or a file system that cannot be its upper layer
            run("cp", "-a", "--reflink=auto", f"{image}/.", machine.root)
    if not machine.data.is_mount():
        run("mount", "-o", "loop", machine.data_image, machine.data)


def is_on(machine: Machine) -> bool:
    """Whether it is running."""
    return keeper_pid(machine) is not None or bool(_processes_in(machine))


def keeper_pid(machine: Machine) -> int | None:
    """The process that keeps the machine, if it lives. A number that another process has got by now does not count."""
    try:
        pid = int(machine.pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"keep" in command and str(machine.root).encode() in command else None


def boot(machine: Machine) -> None:
    """Switch it on. Returns at once, see `wait_for_ssh`."""
    if is_on(machine):
        return
    if not machine.root.is_mount() and not (machine.root / "etc").is_dir():
        raise LabError(f"{machine.name} has no disks; type: paxoslab up")
    machine.lab.run.mkdir(parents=True, exist_ok=True)
    for leftover in ("run", "tmp"):  # what a machine has there is gone after a power cut
        _empty(machine.root / leftover)
    network.plug(machine)
    main = Path(__file__).resolve().parent.parent / "paxoslab"
    with machine.console.open("ab") as console:
        keeper = subprocess.Popen(
            [sys.executable, str(main), "keep", machine.lab.subnet, machine.name, str(machine.root)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            cwd="/",
            start_new_session=True,
        )
    machine.pid_file.write_text(f"{keeper.pid}\n")
    deadline = time.monotonic() + 5
    while not is_on(machine) and keeper.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)  # a process that has just begun has no command line yet


def keep(machine: Machine) -> int:
    """Run the machine until it is switched off; start it again when it reboots. The keeper's whole life."""
    if not has_systemd():
        cgroups.enter(machine)
    while True:
        code = subprocess.run(_nspawn(machine), check=False).returncode
        print(f"paxoslab: {machine.name} ended with {code}", flush=True)
        if code != REBOOT_CODE:
            return 0


def power_cut(machine: Machine) -> None:
    """Pull the plug: the machine falls silent at once, and every process of it is dead when this returns.

    Raises:
        LabError: it survives.
    """
    network.unplug(machine)  # first: the kernel would say goodbye for every socket of a dying process
    keeper = keeper_pid(machine)
    doomed = [] if keeper is None else [keeper]  # the keeper first: it must not take the death for a reboot
    doomed += _nspawns(machine)
    for pid in [*doomed, *_processes_in(machine)]:
        _kill(pid)
    deadline = time.monotonic() + 10
    while _processes_in(machine):
        if time.monotonic() > deadline:
            raise LabError(f"{machine.name} has processes that survive SIGKILL: {_processes_in(machine)}")
        time.sleep(0.02)
    network.forget(machine)
    machine.pid_file.unlink(missing_ok=True)


def discard(machine: Machine) -> None:
    """Switch it off and throw its disks away. Debian packages that it has downloaded are kept for the next one."""
    power_cut(machine)
    _collect_packages(machine)
    if machine.root.is_dir():
        status = machine.root.stat()
        (NSPAWN / "locks" / f"inode-{status.st_dev}:{status.st_ino}").unlink(missing_ok=True)
    remove_tree(machine.folder)
    for path in (machine.console, machine.pid_file):
        path.unlink(missing_ok=True)
    for name in ("propagate", "unix-export"):
        shutil.rmtree(NSPAWN / name / machine.unit, ignore_errors=True)
    if not has_systemd():
        cgroups.remove(machine)


def wait_for_ssh(machine: Machine, timeout_s: float = BOOT_S) -> None:
    """Wait until sshd greets.

    Raises:
        LabError: it does not, or the machine went off.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not is_on(machine):
            raise LabError(f"{machine.name} did not boot; {machine.console} says why")
        try:
            with socket.create_connection((machine.address, 22), timeout=1) as connection:
                connection.settimeout(1)
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise LabError(
        f"{machine.name} has not answered ssh at {machine.address} for {timeout_s:g} s; see {machine.console}"
    )


def ssh_command(machine: Machine, *words: str) -> list[str]:
    """How to log in."""
    lab = machine.lab
    options = ["-o", f"UserKnownHostsFile={lab.known_hosts}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    return ["ssh", "-i", str(lab.key), *options, f"{LOGIN}@{machine.address}", *words]


def _nspawn(machine: Machine) -> list[str]:
    command = [
        find("systemd-nspawn") or "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--capability=CAP_NET_ADMIN",
        f"--network-namespace-path=/run/netns/{machine.netns}",
        f"--directory={machine.root}",
        f"--machine={machine.unit}",
        f"--hostname={machine.name}",
        f"--bind={machine.data}:/var/lib/paxosnode",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
        "--boot",
    ]
    if has_systemd():  # a host with systemd must be asked for a place in its control groups
        scope = ["systemd-run", "--quiet", "--scope", "--collect", "--property=Delegate=yes", f"--unit={machine.unit}"]
        return [*scope, *command]
    return command


def _personalise(machine: Machine, public_key: str) -> None:
    root = machine.root
    (root / "etc/hostname").write_text(f"{machine.name}\n")
    names = "".join(f"{one.address} {one.name}\n" for one in machine.lab.machines)
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{names}")
    machine_id = root / "etc/machine-id"
    if not machine_id.exists() or not machine_id.read_text().strip():
        machine_id.write_text(secrets.token_hex(16) + "\n")
    _write_resolver(root)
    host_key = root / "etc/ssh/ssh_host_ed25519_key"
    if not host_key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{machine.name}", "-f", host_key)
    folder = root / "home" / LOGIN / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "authorized_keys").write_text(public_key)
    for path in (folder, folder / "authorized_keys"):
        home = (root / "home" / LOGIN).stat()
        os.chown(path, home.st_uid, home.st_gid)
    _offer_packages(machine)


def _write_resolver(root: Path) -> None:
    """The host's name servers. A stub on the host's loopback cannot be reached from a machine: take what it asks."""
    behind = Path("/run/systemd/resolve/resolv.conf")
    text = Path("/etc/resolv.conf").read_text() if Path("/etc/resolv.conf").exists() else ""
    if "nameserver 127." in text and behind.exists():
        text = behind.read_text()
    target = root / "etc/resolv.conf"
    target.unlink(missing_ok=True)
    target.write_text(text)


def host_key_line(machine: Machine) -> str:
    """The machine's line in known_hosts."""
    kind, key, *_ = (machine.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
    return f"{machine.address} {kind} {key}\n"


def _offer_packages(machine: Machine) -> None:
    """Give the machine the packages that earlier ones have downloaded. apt checks them like its own downloads."""
    archives = machine.root / DEBS
    for package in (CACHE / "packages").glob("*.deb"):
        if not (archives / package.name).exists():
            shutil.copy2(package, archives / package.name)


def _collect_packages(machine: Machine) -> None:
    folder = CACHE / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    for package in (machine.folder / "upper" / DEBS).glob("*.deb"):
        if not (folder / package.name).exists():
            shutil.copy2(package, folder / package.name)


def _empty(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _nspawns(machine: Machine) -> list[int]:
    """The processes of systemd-nspawn that run the machine: one, or none. Found also when its keeper has died."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if f"--machine={machine.unit}".encode() in words and words[0].endswith(b"systemd-nspawn"):
            found.append(int(entry.name))
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _processes_in(machine: Machine) -> list[int]:
    """All processes of the machine: those in its network namespace. They outlive a nspawn that somebody has killed."""
    text = run("ip", "netns", "pids", machine.netns, check=False)
    return [int(pid) for pid in text.split()]
