"""The command line `paxoslab`: make the virtual lab, break machines, remove every trace."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import cgroups, network
from lab import machine as machines
from lab.host import demand, exclusive, mounts_below, remove_tree, run
from lab.image import MIRROR, SECURITY_MIRROR, SUITE, ensure_image, remove_images
from lab.plan import DEFAULT_SUBNET, RUN, STATE, SUBNET_VARIABLE, Lab, LabError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked. Returns 0, or 1 after a sentence on stderr."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", flush=True)

    try:
        if options.command == "keep":
            return machines.keep(Lab.existing(options.subnet).machine(options.machine))
        demand(root=options.command != "ssh")
        return int(options.act(options, say) or 0)
    except LabError as error:
        for line in str(error).splitlines():
            print(f"paxoslab: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("paxoslab: interrupted; what was made so far is removed by: paxoslab down", file=sys.stderr)
        return 130


def _up(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    lab = Lab.of(options.subnet, options.nodes)
    with exclusive():
        image = ensure_image(say, options.suite, options.mirror, options.security_mirror)
        say(f"{len(lab.machines)} machines in {lab.subnet}, made from {image.name}")
        public_key = _ensure_key(lab)
        for machine in lab.machines:
            machines.make_disks(machine, image, options.data_mb, public_key)
        lab.known_hosts.write_text("".join(map(machines.host_key_line, lab.machines)))
        _give_to_caller(lab.key.parent)
        network.make_network(lab)
        for machine in lab.machines:
            machines.boot(machine)
        for machine in lab.machines:
            machines.wait_for_ssh(machine)
            say(f"{machine.name} is up at {machine.address}")
    print(f"\nThe lab is up. Next, in {Path(__file__).resolve().parent.parent}:")
    if lab.subnet != DEFAULT_SUBNET:
        print(f"  export {SUBNET_VARIABLE}={lab.subnet}")
    print(f"  ansible-playbook -i inventories/{'virtual' if lab.nodes == 3 else f'virtual{lab.nodes}'} deploy.yml")


def _down(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    lab = Lab.existing(options.subnet)
    with exclusive():
        for machine in lab.machines:
            machines.discard(machine)
        network.remove_network(lab)
        remove_tree(lab.folder)
        remove_tree(lab.run)
        if not any(path.is_dir() for path in RUN.iterdir()):
            network.restore_forwarding()
        left = _traces(lab)
        if left:
            raise LabError(f"these are still there: {', '.join(left)}")
        if options.cache:
            remove_images(say)
        if STATE.is_dir() and not any(STATE.iterdir()):
            STATE.rmdir()
    if not any(path.is_dir() for path in RUN.iterdir()):
        shutil.rmtree(RUN)
    say(f"the lab in {lab.subnet} is gone")


def _traces(lab: Lab) -> list[str]:
    found = [f"machine {one.name}" for one in lab.machines if machines.is_on(one)]
    found += [f"mount {point}" for point in mounts_below(lab.folder)]
    found += [f"control group {group}" for one in lab.machines for group in cgroups.existing(one)]
    return found + network.traces(lab)


def _status(options: argparse.Namespace, _say: Callable[[str], None]) -> int:
    lab = Lab.existing(options.subnet)
    if not lab.folder.is_dir():
        left = _traces(lab)
        print(f"there is no lab in {lab.subnet}" + (f", but: {', '.join(left)}" if left else ""))
        return 0
    for machine in lab.machines:
        pid = machines.keeper_pid(machine)
        free = shutil.disk_usage(machine.data).free // 2**20 if machine.data.is_mount() else 0
        state = f"on   (keeper {pid})" if pid else "on   (no keeper)" if machines.is_on(machine) else "off"
        print(f"{machine.name:<9}{machine.address:<16}{state:<22}data disk: {free} MB free")
    return 0


def _power_cut(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    machine = Lab.existing(options.subnet).machine(options.machine)
    machines.power_cut(machine)
    say(f"{machine.name} is off")


def _boot(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    machine = Lab.existing(options.subnet).machine(options.machine)
    machines.boot(machine)
    if options.wait:
        machines.wait_for_ssh(machine)
    say(f"{machine.name} is on")


def _ssh(options: argparse.Namespace, _say: Callable[[str], None]) -> None:
    machine = Lab.existing(options.subnet).machine(options.machine)
    words = machines.ssh_command(machine, *options.words)
    os.execvp(words[0], words)


def _ensure_key(lab: Lab) -> str:
    if not lab.key.exists():
        lab.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"paxoslab {lab.subnet}", "-f", lab.key)
    return lab.key.with_suffix(".pub").read_text()


def _give_to_caller(folder: Path) -> None:
    """The person behind sudo runs ansible-playbook, and it must be able to read the key."""
    uid, gid = int(os.environ.get("SUDO_UID", "0")), int(os.environ.get("SUDO_GID", "0"))
    for path in (folder, *folder.iterdir()):
        os.chown(path, uid, gid)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="paxoslab",
        description="Machines with a network of their own, on this machine, for the playbooks to deploy to and to "
        "break. Needs root.",
    )
    parser.add_argument(
        "--subnet",
        default=os.environ.get(SUBNET_VARIABLE) or DEFAULT_SUBNET,
        help=f"private /24 network; else ${SUBNET_VARIABLE}, else {DEFAULT_SUBNET}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, act: Callable[..., object], text: str, *, machine: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(act=act)
        if machine:
            sub.add_argument("machine", metavar="MACHINE", help="node1, node2, …, monitor")
        return sub

    up = command("up", _up, "Make and boot the machines; does what is missing when called again.")
    up.add_argument("--nodes", type=int, default=3, help="node1 to nodeN, beside monitor (default 3)")
    up.add_argument("--data-mb", type=int, default=2048, help="size of each machine's data disk (default 2048)")
    up.add_argument("--suite", default=SUITE, help=f"Debian release (default {SUITE})")
    up.add_argument("--mirror", default=MIRROR, help=f"default {MIRROR}")
    up.add_argument("--security-mirror", default=SECURITY_MIRROR, help=f"default {SECURITY_MIRROR}")
    down = command("down", _down, "Remove every trace; only the image cache stays.")
    down.add_argument("--cache", action="store_true", help="remove the image cache too")
    command("status", _status, "Show the machines.")
    command("power-cut", _power_cut, "Pull a machine's plug.", machine=True)
    boot = command("boot", _boot, "Switch a machine on again.", machine=True)
    boot.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait for ssh")
    ssh = command("ssh", _ssh, "Log in, or run a command.", machine=True)
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    # Not for people, and not in the help: see machine.keep.
    keep = commands.add_parser("keep")
    keep.add_argument("subnet")
    keep.add_argument("machine")
    keep.add_argument("root", help="only so that the process can be told from others")
    return parser
