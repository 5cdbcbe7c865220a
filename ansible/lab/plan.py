"""What the lab consists of: names, addresses and places, all derived from one subnet.

Two labs with different subnets do not touch each other, and `paxoslab down` finds everything that `up` has made without
having to remember it.
"""

import ipaddress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DEFAULT_SUBNET = "10.77.0.0/24"
SUBNET_VARIABLE = "PAXOSLAB_SUBNET"
"""Environment variable that the tool and inventories/virtual both read."""

NODES_MAX = 9
"""As many as a cluster may have."""

MONITOR = "monitor"
MONITOR_HOST = 100
GATEWAY_HOST = 254

CACHE = Path("/var/cache/paxos-lab")
"""Machine images. Kept by `down`: making one takes a minute and the network."""
STATE = Path("/var/lib/paxos-lab")
RUN = Path("/run/paxos-lab")

LOGIN = "lab"
"""The user of all machines; may do everything with sudo, as on a freshly installed server."""


class LabError(Exception):
    """The lab cannot do that. The text is a sentence for people."""


@dataclass(frozen=True)
class Machine:
    """One machine of the lab."""

    name: str
    address: str
    lab: "Lab"

    @property
    def netns(self) -> str:
        """Its network namespace, and the name of its end of the cable on the host's side."""
        return f"{self.lab.prefix}-{self.name}"

    @property
    def cable(self) -> str:
        """The host's end of its cable. At most 15 characters, as the kernel wants."""
        return f"{self.lab.prefix}-{'m' if self.name == MONITOR else self.name.removeprefix('node')}"

    @property
    def folder(self) -> Path:
        """Its disks and what belongs to them."""
        return self.lab.folder / self.name

    @property
    def root(self) -> Path:
        """Its root file system."""
        return self.folder / "root"

    @property
    def data_image(self) -> Path:
        """Its second disk, where a node keeps its data: small, so that it can be filled up."""
        return self.folder / "data.ext4"

    @property
    def data(self) -> Path:
        """Where the second disk is mounted on the host."""
        return self.folder / "data"

    @property
    def pid_file(self) -> Path:
        """Process id of its keeper."""
        return self.lab.run / f"{self.name}.pid"

    @property
    def console(self) -> Path:
        """What it has printed while booting."""
        return self.lab.run / f"{self.name}.console"

    @property
    def unit(self) -> str:
        """The name under which it is known to nspawn, and to the host's systemd if there is one."""
        return f"{self.lab.prefix}-{self.name}"


@dataclass(frozen=True)
class Lab:
    """A lab: `node1` to `nodeN`, and `monitor`."""

    network: ipaddress.IPv4Network
    nodes: int = 3

    @classmethod
    def of(cls, subnet: str, nodes: int = 3) -> "Lab":
        """The lab of a subnet.

        Raises:
            LabError: it is no /24 network of private addresses, or there are too many nodes.
        """
        try:
            network = ipaddress.ip_network(subnet)
        except ValueError as error:
            raise LabError(f"{subnet!r} is no subnet: {error}; write one like {DEFAULT_SUBNET}") from error
        if not isinstance(network, ipaddress.IPv4Network) or network.prefixlen != 24 or not network.is_private:
            raise LabError(f"{subnet!r} must be a /24 network of private addresses, like {DEFAULT_SUBNET}")
        if not 1 <= nodes <= NODES_MAX:
            raise LabError(f"a lab has 1 to {NODES_MAX} nodes, not {nodes}")
        return cls(network, nodes)

    @property
    def subnet(self) -> str:
        """As written in the inventory."""
        return str(self.network)

    @cached_property
    def prefix(self) -> str:
        """Heads the names of all interfaces and namespaces: two labs never have the same."""
        _, second, third, _ = str(self.network.network_address).split(".")
        return f"plab{second}-{third}"

    @property
    def bridge(self) -> str:
        """The switch all machines hang on."""
        return self.prefix

    @property
    def table(self) -> str:
        """The nftables table that lets machines out."""
        return self.prefix.replace("-", "_")

    @property
    def gateway(self) -> str:
        """The host's address on the bridge."""
        return str(self.network[GATEWAY_HOST])

    @property
    def folder(self) -> Path:
        """What outlives a reboot of the host: disks and keys."""
        return STATE / str(self.network.network_address)

    @property
    def run(self) -> Path:
        """What does not."""
        return RUN / str(self.network.network_address)

    @property
    def key(self) -> Path:
        """The private key that opens all machines."""
        return self.folder / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Who the machines are."""
        return self.folder / "ssh" / "known_hosts"

    @cached_property
    def machines(self) -> tuple[Machine, ...]:
        """All machines, the monitor last."""
        nodes = [Machine(f"node{number}", str(self.network[number]), self) for number in range(1, self.nodes + 1)]
        return (*nodes, Machine(MONITOR, str(self.network[MONITOR_HOST]), self))

    def machine(self, name: str) -> Machine:
        """The machine with this name.

        Raises:
            LabError: there is none.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise LabError(f"there is no machine {name!r}; there are {', '.join(one.name for one in self.machines)}")

    @classmethod
    def existing(cls, subnet: str) -> "Lab":
        """The lab of a subnet with as many nodes as were made, for every command but `up`."""
        lab = cls.of(subnet)
        found = [path.name.removeprefix("node") for path in lab.folder.glob("node*")] if lab.folder.is_dir() else []
        numbers = [int(text) for text in found if text.isdecimal()]
        return cls.of(subnet, max(numbers)) if numbers else lab
