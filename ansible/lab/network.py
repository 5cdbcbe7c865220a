"""The lab's network: one bridge, one namespace and cable per machine, and a way out for package downloads.

All of it consists of private addresses in namespaces of our own. Names come from the plan, so that everything can be
removed without remembering what was made.
"""

import json
from pathlib import Path

from lab.host import run
from lab.plan import RUN, Lab, Machine

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
FORWARDING_BEFORE = RUN / "ip_forward.before"
"""What the host's setting was before the first lab. The last one to go sets it back."""


def make_network(lab: Lab) -> None:
    """Make the bridge, and let machines out. Machines are plugged in when they boot.

    Raises:
        LabError: a command failed.
    """
    if not _exists(lab.bridge):
        run("ip", "link", "add", lab.bridge, "address", _hardware(lab.gateway), "type", "bridge")
    run("ip", "address", "replace", f"{lab.gateway}/24", "dev", lab.bridge)
    run("ip", "link", "set", lab.bridge, "up")
    _let_out(lab)


def remove_network(lab: Lab) -> None:
    """Remove all of it, whatever is there."""
    for netns in list_namespaces(lab):
        run("ip", "netns", "delete", netns, check=False)
    for link in _links(lab):
        run("ip", "link", "delete", link, check=False)
    run("nft", "delete", "table", "ip", lab.table, check=False)


def restore_forwarding() -> None:
    """Set the host's forwarding back to what it was before the first lab."""
    if FORWARDING_BEFORE.exists():
        FORWARDING.write_text(FORWARDING_BEFORE.read_text())
        FORWARDING_BEFORE.unlink()


def list_namespaces(lab: Lab) -> list[str]:
    """The lab's network namespaces."""
    names = [line.split()[0] for line in run("ip", "netns", "list", check=False).splitlines() if line.strip()]
    return [name for name in names if name.startswith(f"{lab.prefix}-")]


def traces(lab: Lab) -> list[str]:
    """What of the lab's network is there."""
    found = [f"namespace {name}" for name in list_namespaces(lab)] + [f"interface {name}" for name in _links(lab)]
    if lab.table in run("nft", "list", "tables", check=False).split():
        found.append(f"nftables table {lab.table}")
    return found


def plug(machine: Machine) -> None:
    """A namespace whose only interface, host0, is plugged into the bridge.

    Raises:
        LabError: a command failed.
    """
    lab, netns = machine.lab, machine.netns
    if netns in list_namespaces(lab):
        return
    run("ip", "netns", "add", netns)
    run(
        "ip",
        "link",
        "add",
        machine.cable,
        "type",
        "veth",
        "peer",
        "name",
        "host0",
        "address",
        _hardware(machine.address),
        "netns",
        netns,
    )
    run("ip", "link", "set", machine.cable, "master", lab.bridge, "up")
    inside = ("ip", "-netns", netns)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "add", f"{machine.address}/24", "dev", "host0")
    run(*inside, "link", "set", "host0", "up")
    run(*inside, "route", "add", "default", "via", lab.gateway)


def unplug(machine: Machine) -> None:
    """Take the cable away: from now on it is silent, whatever its dying processes still send."""
    run("ip", "link", "delete", machine.cable, check=False)


def forget(machine: Machine) -> None:
    """Remove its namespace, and with it all that its kernel still knew of connections. Its processes are dead."""
    run("ip", "netns", "delete", machine.netns, check=False)


def _let_out(lab: Lab) -> None:
    if not FORWARDING_BEFORE.exists():
        FORWARDING_BEFORE.write_text(FORWARDING.read_text())
    FORWARDING.write_text("1\n")
    rules = f"""
        add table ip {lab.table}
        delete table ip {lab.table}
        table ip {lab.table} {{
            chain out {{
                type nat hook postrouting priority srcnat
                ip saddr {lab.subnet} ip daddr != {lab.subnet} masquerade
            }}
            chain pass {{
                type filter hook forward priority filter
                ip saddr {lab.subnet} accept
                ip daddr {lab.subnet} accept
            }}
        }}
    """
    run("nft", "--file", "-", text=rules)


def _hardware(address: str) -> str:
    """The hardware address that belongs to an address, always the same: neighbours remember it."""
    return "02:70:" + ":".join(f"{int(octet):02x}" for octet in address.split("."))


def _exists(link: str) -> bool:
    return link in {entry["ifname"] for entry in json.loads(run("ip", "-json", "link", "show"))}


def _links(lab: Lab) -> list[str]:
    names = [entry["ifname"] for entry in json.loads(run("ip", "-json", "link", "show"))]
    return [name for name in names if name == lab.bridge or name.startswith(f"{lab.prefix}-")]
