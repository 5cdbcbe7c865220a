"""Ansible module: what the playbooks must know of a machine before they touch it. Reads, changes nothing.

One round trip per machine. Written for old Pythons too, so that they can be told to be too old.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: paxos_facts
short_description: What the playbooks must know of a machine before they touch it
description:
  - Collects the operating system, its Python, who listens on our ports, and how far a node is installed and running.
  - Changes nothing, in check mode or out of it.
author: Paxos-Twisted
options:
  unit:
    description: Systemd unit of the node.
    type: str
    default: paxosnode.service
  data_dir:
    description: Data directory of the node.
    type: str
    default: ""
  config:
    description: Its configuration file.
    type: str
    default: ""
  secret:
    description: Its secret file. Only a digest of it is told.
    type: str
    default: ""
  ports:
    description: TCP ports that must be free, or held by the unit.
    type: list
    elements: int
    default: []
"""

RETURN = r"""
facts:
  description: What was found.
  returned: always
  type: dict
"""

EXAMPLES = r"""
- name: Look at the machine
  paxos_facts:
    ports: [7101, 7201]
  register: machine
"""


def main():
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": "paxosnode.service"},
            "data_dir": {"type": "str", "default": ""},
            "config": {"type": "str", "default": ""},
            "secret": {"type": "str", "default": "", "no_log": False},
            "ports": {"type": "list", "elements": "int", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    unit = unit_state(wanted["unit"])
    facts = {
        "python": list(sys.version_info[:3]),
        "python_executable": sys.executable,
        "machine": platform.machine(),
        "os": os_release(),
        "is_root": os.geteuid() == 0,
        "has_systemd": os.path.isdir("/run/systemd/system"),
        "boot_id": read("/proc/sys/kernel/random/boot_id").strip(),
        "time": time.time(),
        "unit": unit,
        "config": read(wanted["config"]),
        "secret_digest": digest(wanted["secret"]),
        "data": data_directory(wanted["data_dir"]),
        "listeners": listeners(set(wanted["ports"])),
    }
    for one in facts["listeners"]:
        one["is_ours"] = one["pid"] is not None and one["pid"] == unit["pid"]
    module.exit_json(changed=False, facts=facts)


def read(path):
    """The text of a file; empty when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


def digest(path):
    text = read(path).strip()
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def os_release():
    found = dict(
        re.findall(r'^(ID|VERSION_ID|PRETTY_NAME|ID_LIKE|VERSION_CODENAME)="?([^"\n]*)', read("/etc/os-release"), re.M)
    )
    return {key.lower(): value for key, value in found.items()}


def unit_state(unit):
    """How systemd sees the node, and which deployment its process was started from."""
    wanted = ("LoadState", "ActiveState", "SubState", "MainPID", "UnitFileState", "Result", "StatusText")
    try:
        text = subprocess.run(
            ["systemctl", "show", unit, "--property", ",".join(wanted)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        ).stdout.decode("utf-8", "replace")
    except OSError:
        text = ""
    state = dict(line.partition("=")[::2] for line in text.splitlines())
    pid = int(state.get("MainPID") or 0) or None
    running = ""
    for entry in read(f"/proc/{pid}/environ").split("\0") if pid else ():
        if entry.startswith("PAXOS_DEPLOYMENT="):
            running = entry.partition("=")[2]
    return {
        "exists": state.get("LoadState") == "loaded",
        "active": state.get("ActiveState", "unknown"),
        "sub": state.get("SubState", ""),
        "enabled": state.get("UnitFileState", ""),
        "result": state.get("Result", ""),
        "status": state.get("StatusText", ""),
        "pid": pid,
        "deployment": running,
    }


def data_directory(path):
    """Whether there is a log in it, and how much space is left where it is or will be."""
    entries = sorted(os.listdir(path)) if path and os.path.isdir(path) else []
    place = path or "/"
    while place != "/" and not os.path.isdir(place):
        place = os.path.dirname(place)
    space = os.statvfs(place)
    return {
        "entries": entries[:10],
        "has_log": "node.db" in entries,
        "free_mb": space.f_bavail * space.f_frsize >> 20,
        "size_mb": space.f_blocks * space.f_frsize >> 20,
        "is_mount": os.path.ismount(place) and place != "/",
        "mount": place,
    }


def listeners(ports):
    """Who listens on these TCP ports."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(table).splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == "0A" and port in ports:
                inodes[f"socket:[{fields[9]}]"] = port
    if not inodes:
        return []
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        folder = f"/proc/{pid}/fd"
        try:
            for name in os.listdir(folder):
                port = inodes.get(os.readlink(f"{folder}/{name}"))
                if port is not None:
                    found.setdefault(port, int(pid))
        except OSError:  # it ended meanwhile, or we may not look
            continue
    return [
        {
            "port": port,
            "pid": found.get(port),
            "process": read(f"/proc/{found.get(port)}/comm").strip() or "a process",
        }
        for port in sorted(set(inodes.values()))
    ]


if __name__ == "__main__":
    main()
