"""Make the pictures of the client programs: real programs in pseudo terminals, on a real cluster of this machine.

`make pictures` draws all of them anew, `python docs/pictures.py chat` some. Each scene starts a cluster in a temporary
directory and lets people type. What a program writes goes through a terminal emulator (pyte); the characters and
colours that stand on its screen at a chosen moment become an SVG file beside the page that shows it, in the colours of
demo.svg. Needs the dependency groups dev and docs.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.cluster.picture import save_picture

DOCS: Final = Path(__file__).parent

COLUMNS: Final = 96
ROWS: Final = 24
BASE_PORT: Final = 7101
"""The port of the documentation; when it is taken, the pictures show others."""

PATIENCE_S: Final = 30.0
QUIET_S: Final = 0.3
"""A screen that has not changed for so long has been drawn to its end."""

COLOURS: Final = {"brown": "yellow", "brightbrown": "bright_yellow", "bfightmagenta": "bright_magenta"}
"""Where pyte's names of colours are not those of rich."""


class Screen(pyte.Screen):  # type: ignore[misc]
    """A terminal that keeps dim letters, too: as blinking ones, which pyte remembers and no program of ours has."""

    def __init__(self, reply: Callable[[str], object]) -> None:
        super().__init__(COLUMNS, ROWS)
        self._reply = reply

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        """Colours and styles from here on."""
        if private:
            return  # a question about the keyboard, not a colour
        if attributes[:1] not in {(38,), (48,)}:  # there a 2 is a part of a colour
            attributes = tuple(5 if number == 2 else number for number in attributes)
            if 22 in attributes:
                attributes += (25,)
        super().select_graphic_rendition(*attributes)

    def write_process_input(self, data: str) -> None:
        """The program has asked the terminal something, e.g. where the cursor is."""
        self._reply(data)


class Person:
    """Somebody in front of a program."""

    def __init__(self, cluster: LocalCluster, program: str, *arguments: str) -> None:
        """`arguments` are what the title of the picture shows, too."""
        self.title = " ".join([program, *arguments])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PAXOS_", "NO_COLOR"))}
        home = tempfile.mkdtemp(dir=cluster.directory)  # nobody sees what others have typed
        ours = {"TERM": "xterm-256color", "XDG_STATE_HOME": home, "PAXOS_CONFIG": str(cluster.config_path)}
        self._child: Any = pexpect.spawn(
            sys.executable,
            ["-c", f"from paxos_twisted_client.{program} import main; main()", *arguments],
            env=kept | ours,
            dimensions=(ROWS, COLUMNS),
        )
        self._screen = Screen(self._child.send)
        self._stream = pyte.ByteStream(self._screen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.close(force=True)

    def type(self, text: str) -> None:
        """Press keys."""
        self._child.send(text)

    def say(self, line: str, then: str) -> None:
        """Type a line; wait for the pattern that answers it."""
        self.type(f"{line}\r")
        self.sees(then)

    def sees(self, pattern: str) -> None:
        """Wait until it stands somewhere on the screen, and the screen is quiet.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(pattern, "\n".join(self._screen.display)):
            if time.monotonic() > deadline:
                screen = "\n".join(self._screen.display)
                raise TimeoutError(f"{self.title} did not show {pattern!r}, but:\n{screen}")
            self._read(QUIET_S)
        self.watches(QUIET_S)

    def watches(self, seconds: float) -> None:
        """Look at the screen for a while."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def _read(self, seconds: float) -> None:
        try:
            self._stream.feed(self._child.read_nonblocking(65536, timeout=seconds))
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            time.sleep(seconds)

    def picture(self, name: str) -> None:
        """Save what stands on the screen as docs/`name`.svg, without the empty lines at its end."""
        lines = [self._line(row) for row in range(ROWS)]
        while lines and not lines[-1].plain.strip():
            lines.pop()
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            console = Console(file=nowhere, record=True, width=COLUMNS, highlight=False, force_terminal=True)
            for line in lines:
                console.print(line, no_wrap=True, crop=True)
            save_picture(console, DOCS / f"{name}.svg", self.title)
        print(f"docs/{name}.svg")

    def _line(self, row: int) -> Text:
        line, cursor = Text(), self._screen.cursor
        for column in range(COLUMNS):
            cell = self._screen.buffer[row][column]
            is_cursor = (row, column) == (cursor.y, cursor.x) and not cursor.hidden
            line.append(cell.data, _style(cell, is_cursor=is_cursor))
        return line


def _style(cell: Any, *, is_cursor: bool) -> Style:
    def colour(name: str) -> str | None:
        if name == "default":
            return None
        if re.fullmatch("[0-9a-f]{6}", name):
            return f"#{name}"
        return COLOURS.get(name) or name.replace("bright", "bright_")

    return Style(
        color=colour(cell.fg),
        bgcolor=colour(cell.bg),
        bold=cell.bold,
        dim=cell.blink,
        italic=cell.italics,
        underline=cell.underscore,
        reverse=cell.reverse or is_cursor,
    )


@contextmanager
def running(application: str) -> Iterator[LocalCluster]:
    """Three nodes that are ready, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        cluster = LocalCluster.create(Path(folder) / "local", application=application, base_port=BASE_PORT)
        with cluster:
            cluster.start()
            cluster.wait_ready()
            cluster.leader()
            yield cluster


# The scenes


def chat() -> None:
    """Ann comes into a room where something has been said; a node dies; she is about to type."""
    with running("chat") as cluster, ExitStack() as people:
        bob = people.enter_context(Person(cluster, "chatclient", "--name", "bob"))
        bob.sees("nobody has said anything")
        bob.say("good morning", "bob: good morning")
        bob.say("the talk about consensus begins at ten, room 4", "begins at ten")
        cleo = people.enter_context(Person(cluster, "chatclient", "--name", "cleo"))
        cleo.sees("begins at ten")
        cleo.say("I keep a seat for ann", "cleo: I keep")
        ann = people.enter_context(Person(cluster, "chatclient", "--name", "ann"))
        ann.sees("I keep a seat")
        ann.say("thank you! I am on the train", "ann: thank you")
        bob.say("shall we see whether this chat survives its leader?", "ann: thank you.*(.|\n)*survives its leader")
        ann.sees("survives its leader")
        cluster.kill(cluster.leader())
        ann.sees("looking for a node")
        cluster.leader()
        cleo.say("a node was killed just now, and here we are", "here we are")
        ann.sees("here we are")
        ann.say("nothing lost on my side", "ann: nothing lost")
        ann.say("/who", "lately here")
        ann.type("see you at te")
        ann.watches(QUIET_S)
        ann.picture("chat-screen")


def auction() -> None:
    """Ann and bob bid for a vase: in the middle, and at the end."""
    with running("auction") as cluster, ExitStack() as people:
        bob = people.enter_context(Person(cluster, "auctionclient", "--id", "bob", "--auction", "vase"))
        ann = people.enter_context(Person(cluster, "auctionclient", "--id", "ann", "--auction", "vase"))
        for one in (ann, bob):
            one.sees("there is no auction")
        bob.say("/start 15s", "the auction is open")
        ann.sees("the auction is open")
        ann.say("100", "success: 100")
        bob.say("120", "success: 120")
        ann.sees("120 by bob")
        ann.say("110", "fail: 110")
        ann.say("150", "success: 150")
        ann.say("how does it stand?", "you lead")
        ann.type("2")
        ann.watches(QUIET_S)
        ann.picture("auction-screen")
        ann.type("\b")
        bob.say("160", "success: 160")
        ann.sees("160 by bob")
        ann.say("200", "success: 200")
        ann.sees("you have won")
        ann.watches(1.0)
        ann.picture("auction-end")


def kv() -> None:
    """Operations at the prompt of kvclient."""
    with running("kv") as cluster, Person(cluster, "kvclient") as ann:
        ann.sees("kv>")
        ann.say("put user/ann 'Ann Archer'", "done")
        ann.say("put user/bob Bob", r"bob Bob.*\n.*done")
        ann.say("get user/ann", r"\n.*Ann Archer +\(")
        ann.say("create user/bob Robert", "not done")
        ann.say("cas user/bob Bob Robert", r"Robert.*\n.*done +\(")
        ann.say("list user/", r"bob.*Robert")
        ann.say("status", "median")
        ann.type("l\t")
        ann.watches(QUIET_S)
        ann.picture("kvclient-prompt")


def bank() -> None:
    """Transactions at the prompt of bankclient; a node dies between two of them."""
    with running("bank") as cluster, Person(cluster, "bankclient") as ann:
        ann.sees("bank>")
        ann.say("deposit 17 100", "balance 100")
        ann.say("w 17 250", "refused")
        ann.say("", "account:")
        ann.say("17", r"transaction \(")
        ann.say("transfer", "to account:")
        ann.say("4711", "amount:")
        ann.say("30", "balance 30")
        cluster.kill(cluster.leader())
        ann.say("balance 17", r"balance 17(.|\n)*balance 70 +\(")
        ann.say("status", "median")
        ann.picture("bankclient-prompt")


SCENES: Final[dict[str, Callable[[], None]]] = {"chat": chat, "auction": auction, "kv": kv, "bank": bank}


def main(names: Sequence[str]) -> None:
    """Draw the pictures of these scenes; of all, when none is named."""
    for name in names or tuple(SCENES):
        if name not in SCENES:
            sys.exit(f"there is no scene {name!r}; there are {', '.join(SCENES)}")
        SCENES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
