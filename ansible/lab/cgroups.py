"""A control group for each machine, on hosts whose first process is not systemd.

Without it nspawn would put the services of all machines into the same groups: a machine's systemd counts the processes
of a group to know whether a service lives, and would count those of its neighbours.
"""

import os
import time
from pathlib import Path

from lab.plan import LabError, Machine

BURIAL_S = 10.0
"""Takes a few milliseconds."""


def enter(machine: Machine) -> None:
    """Move this process, and with it all its children to come, into the machine's own groups."""
    for hierarchy in _hierarchies():
        group = hierarchy / machine.unit
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text(f"{os.getpid()}\n")


def remove(machine: Machine) -> None:
    """Remove the machine's groups. Its processes are dead, but the kernel may still be burying them.

    Raises:
        LabError: a group is not empty and stays so.
    """
    deadline = time.monotonic() + BURIAL_S
    while groups := existing(machine):
        try:
            for group in groups:
                for folder, _, _ in os.walk(group, topdown=False):
                    os.rmdir(folder)
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(f"{error.filename} is still in use") from error
            time.sleep(0.02)


def existing(machine: Machine) -> list[Path]:
    """The machine's groups that are there."""
    return [group for hierarchy in _hierarchies() if (group := hierarchy / machine.unit).is_dir()]


def _hierarchies() -> list[Path]:
    """Where systemd keeps its groups: the hierarchy of version 2, or the one named systemd of version 1, or both."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        name, _, options = kind.split(" ", 2)
        if name == "cgroup2" or (name == "cgroup" and "name=systemd" in options.split()[-1].split(",")):
            found.append(Path(fields.split()[4]))
    return found
