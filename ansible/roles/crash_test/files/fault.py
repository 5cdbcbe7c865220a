"""Breaks the machine it runs on, on request and for a short time, and mends it again. Only for crash tests.

`serve` waits for a word of the load generator (see trigger.py), strikes at once, mends after a while, and writes down
when it did what. `finish` waits for that to end. `restore` mends whatever may be broken, however often it is called; it
asks for nothing and is what a test calls in any case. Standard library only.
"""

import argparse
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

UNIT = "paxosnode.service"
AGENT = "paxos-crash-agent.service"
SUSPENDED = Path(f"/run/systemd/system/{UNIT}.d/crash-test.conf")
"""While this is there, systemd does not start a node that has died: else it would be back before anybody noticed."""
TABLE = "paxos_crash_test"
DATA = Path("/var/lib/paxosnode")
BALLAST = DATA / "crash-test-ballast"
DATA_MB_MAX = 4096
"""A larger disk is not filled: that would be somebody's system disk."""


class Fault:
    """A way to break a machine: what is done beforehand, at the moment itself, and to mend it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def prepare(self) -> None:
        """What takes time and disturbs nobody."""

    def strike(self, argument: str) -> None:
        """Break it, as fast as possible. `argument` came with the request."""
        raise NotImplementedError

    def heal(self) -> None:
        """Mend it."""
        raise NotImplementedError


class Kill(Fault):
    """The process is killed, and nobody starts it again."""

    def prepare(self) -> None:
        """Suspend the restart."""
        suspend_restart()

    def strike(self, argument: str) -> None:
        """SIGKILL."""
        run("systemctl", "kill", "--signal=KILL", UNIT)

    def heal(self) -> None:
        """Start it."""
        resume_restart()
        run("systemctl", "start", "--no-block", UNIT)


class Freeze(Fault):
    """The process is stopped in the middle of whatever it does, and later goes on as if nothing had happened."""

    def strike(self, argument: str) -> None:
        """SIGSTOP."""
        run("systemctl", "kill", "--signal=STOP", UNIT)

    def heal(self) -> None:
        """SIGCONT."""
        run("systemctl", "kill", "--signal=CONT", UNIT)


class Cut(Fault):
    """Nothing goes to the other machines of the cluster, and nothing comes from them, except ssh."""

    ways: tuple[str, ...] = ("input", "output")

    def rules(self) -> str:
        """For nft."""
        lines = [f"table inet {TABLE} {{"]
        for way in self.ways:
            lines += [f"chain {way} {{", f"type filter hook {way} priority -300"]
            lines += [*self.verdicts("saddr" if way == "input" else "daddr"), "}"]
        return "\n".join([*lines, "}"]) + "\n"

    def verdicts(self, end: str) -> list[str]:
        """What happens to packets, by the address of their other end."""
        ssh = ["tcp dport 22 accept", "tcp sport 22 accept"]
        return ssh + [f"{'ip6' if ':' in other else 'ip'} {end} {other} drop" for other in self.options.others]

    def strike(self, argument: str) -> None:
        """Load the rules."""
        run("nft", "--file", "-", text=self.rules())

    def heal(self) -> None:
        """Remove them."""
        run("nft", "delete", "table", "inet", TABLE)


class CutIn(Cut):
    """Deaf: nothing comes from the others."""

    ways = ("input",)


class CutOut(Cut):
    """Mute: nothing goes to the others."""

    ways = ("output",)


class Loss(Cut):
    """Some packets between nodes and clients are lost on their way in."""

    ways = ("input",)

    def verdicts(self, end: str) -> list[str]:
        """Draw lots."""
        port = self.options.cluster_port
        dice = f"numgen random mod 1000 < {int(self.options.percent * 10)}"
        return [f"tcp {which} {port} {dice} drop" for which in ("dport", "sport")]


class FillDisk(Fault):
    """The disk of the data directory has not a byte left."""

    def prepare(self) -> None:
        """Refuse to fill a disk that is not ours alone."""
        size_mb = shutil.disk_usage(DATA).total >> 20
        if not os.path.ismount(DATA) or size_mb > DATA_MB_MAX:
            raise SystemExit(f"{DATA} is no small disk of its own ({size_mb} MB): it is not filled")

    def strike(self, argument: str) -> None:
        """Take all that is left, in pieces that get smaller."""
        taken, piece = 0, shutil.disk_usage(DATA).free
        ballast = os.open(BALLAST, os.O_WRONLY | os.O_CREAT)
        try:
            while piece >= 1024:
                try:
                    os.posix_fallocate(ballast, taken, piece)
                    taken += piece
                except OSError:
                    piece //= 2
        finally:
            os.close(ballast)

    def heal(self) -> None:
        """Give it back."""
        BALLAST.unlink()


class Command(Fault):
    """Whatever the options say, for faults that are not made on this machine: a power cut, message faults."""

    def strike(self, argument: str) -> None:
        """Run the command of --strike; {} in it stands for the argument."""
        self.argument = argument
        run(*(word.replace("{}", argument) for word in json.loads(self.options.strike)))

    def heal(self) -> None:
        """Run the command of --heal."""
        run(*(word.replace("{}", self.argument) for word in json.loads(self.options.heal)))


KINDS: dict[str, type[Fault]] = {
    "kill": Kill,
    "freeze": Freeze,
    "cut": Cut,
    "cut-in": CutIn,
    "cut-out": CutOut,
    "loss": Loss,
    "fill-disk": FillDisk,
    "command": Command,
}


def serve(options: argparse.Namespace) -> int:
    """Wait for the word, strike, mend, and write down when. Returns 0 also when the word never came."""
    fault = KINDS[options.kind](options)
    record = Record(options.out, kind=options.kind, host=options.name, state="waiting")
    fault.prepare()
    with socket.create_server((options.listen, options.port), reuse_port=False) as server:
        record.write()
        if options.notify:
            notify("READY=1")
        argument = wait_for_word(server, options.token, options.timeout)
    if argument is None:
        record.write(state="never")
        return 0
    record.stamp("striking", argument=argument)
    try:
        attempt(lambda: fault.strike(argument), record)
        record.stamp("struck", state="struck")
        time.sleep(options.hold)
    finally:
        record.stamp("healing")
        attempt(fault.heal, record)
        record.stamp("healed", state="healed" if not record.value.get("error") else "failed")
    return 0


def wait_for_word(server: socket.socket, token: str, timeout_s: float) -> str | None:
    """What comes behind the right token, or None when it has not come in time."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        try:
            connection, _ = server.accept()
        except TimeoutError:
            break
        with connection:
            connection.settimeout(2)
            try:
                word, _, argument = connection.recv(400).decode("utf-8", "replace").strip().partition(" ")
                if hmac.compare_digest(word, token):
                    connection.sendall(b"ok\n")
                    return argument
            except OSError:
                continue
    return None


def finish(options: argparse.Namespace) -> int:
    """Wait until an agent that has struck has mended; dismiss one that was not called. Print its record."""
    deadline = time.monotonic() + options.timeout
    while True:
        record = read_record(options.out)
        if record.get("state") in ("healed", "failed", "never", None) or time.monotonic() > deadline:
            break
        if record["state"] == "waiting" and options.dismiss:
            break
        time.sleep(0.1)
    run("systemctl", "stop", AGENT, check=False)
    print(json.dumps(record))
    return 0


def restore(_options: argparse.Namespace | None = None) -> int:
    """Mend whatever a crash test may have left. Says what it had to do."""
    done = []
    if is_active(AGENT):
        run("systemctl", "stop", AGENT, check=False)
        done.append("the agent was still there")
    if run("nft", "list", "table", "inet", TABLE, check=False):
        run("nft", "delete", "table", "inet", TABLE, check=False)
        done.append("the network was cut")
    if BALLAST.exists():
        BALLAST.unlink()
        done.append("the disk was full")
    if SUSPENDED.exists():
        resume_restart()
        done.append("the restart was suspended")
    if run("systemctl", "show", "--property=LoadState", "--value", UNIT, check=False).strip() == "loaded":
        run("systemctl", "kill", "--signal=CONT", UNIT, check=False)
        if not is_active(UNIT):
            run("systemctl", "reset-failed", UNIT, check=False)
            run("systemctl", "start", "--no-block", UNIT, check=False)
            done.append("the node was down")
    print("; ".join(done) or "nothing to mend")
    return 0


def suspend_restart() -> None:
    """Let systemd leave a dead node dead."""
    SUSPENDED.parent.mkdir(parents=True, exist_ok=True)
    SUSPENDED.write_text("[Service]\nRestart=no\n")
    run("systemctl", "daemon-reload")


def resume_restart() -> None:
    """Let systemd start dead nodes again."""
    SUSPENDED.unlink(missing_ok=True)
    with suppress(OSError):  # it holds other settings, or is gone
        SUSPENDED.parent.rmdir()
    run("systemctl", "daemon-reload")


class Record:
    """What happened when, in a file that is whole at any time."""

    def __init__(self, path: Path, **value: Any) -> None:
        self.path = path
        self.value = value

    def stamp(self, name: str, **changes: Any) -> None:
        """Note the time of something: wall clock for comparing machines, monotonic for the clients of this one."""
        self.write(**{f"{name}_ns": time.time_ns(), f"{name}_mono_ns": time.monotonic_ns()}, **changes)

    def write(self, **changes: Any) -> None:
        """Change the file."""
        self.value.update(changes)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".new")
        unfinished.write_text(json.dumps(self.value))
        unfinished.replace(self.path)


def read_record(path: Path) -> dict[str, Any]:
    """What an agent has written; empty when there is nothing."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value


def attempt(action: Callable[[], None], record: Record) -> None:
    """Mending must not stop half-way because one step fails."""
    try:
        action()
    except OSError as error:
        record.write(error=str(error))


def is_active(unit: str) -> bool:
    """Whether systemd says so."""
    return run("systemctl", "is-active", unit, check=False).strip() in ("active", "activating", "reloading")


def notify(text: str) -> None:
    """Tell the service manager."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)


def run(*command: str, text: str | None = None, check: bool = True) -> str:
    """Run a command and return what it printed."""
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"}
    done = subprocess.run(
        command,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if check and done.returncode:
        raise OSError(f"{' '.join(command)} failed with {done.returncode}: {' '.join(done.stderr.split())}")
    return done.stdout


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("serve")
    one.set_defaults(act=serve)
    one.add_argument("--kind", choices=KINDS, required=True)
    one.add_argument("--name", default=socket.gethostname())
    one.add_argument("--listen", default="0.0.0.0")
    one.add_argument("--port", type=int, required=True)
    one.add_argument("--token", default=os.environ.get("CRASH_TOKEN", ""))
    one.add_argument("--hold", type=float, default=3.0, help="seconds until it mends")
    one.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for the word")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--others", type=lambda text: text.split(","), default=[])
    one.add_argument("--cluster-port", type=int, default=7101)
    one.add_argument("--percent", type=float, default=5.0)
    one.add_argument("--strike", help="JSON list of words")
    one.add_argument("--heal", help="JSON list of words")
    one.add_argument("--notify", action="store_true")
    two = commands.add_parser("finish")
    two.set_defaults(act=finish)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--timeout", type=float, default=60.0)
    two.add_argument("--dismiss", action="store_true", help="do not wait for a word that has not come")
    commands.add_parser("restore").set_defaults(act=restore)
    options = parser.parse_args()
    if options.act is serve and not options.token:
        parser.error("a token is needed: --token or CRASH_TOKEN")
    return int(options.act(options))


if __name__ == "__main__":
    sys.exit(main())
