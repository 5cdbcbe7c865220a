"""The chat's screen: what is said in the room comes in above the line that is being typed, and can be scrolled back."""

import json
from collections import deque
from collections.abc import Sequence
from zlib import crc32

from rich.console import Console
from rich.text import Text

from paxos_twisted.apps.chat import History, Message, Page, RoomList, Rooms
from paxos_twisted.limits import CHAT_BODY_CHARACTERS_MAX, CHAT_PAGE_MESSAGES_MAX
from paxos_twisted_client.breaks import Breaks
from paxos_twisted_client.chat import COMMANDS, ChatSide, clock_time, printable
from paxos_twisted_client.feed import Feed
from paxos_twisted_client.form import Form
from paxos_twisted_client.pool import Move, Pool
from paxos_twisted_client.session import OK, Request
from paxos_twisted_client.teller import EXIT_OK, EXIT_USAGE, Teller, as_json, exit_code, sentence
from paxos_twisted_client.terminal import Cancelled, PromptTerminal, Terminal

SHOWN_ON_JOIN = 50
"""Messages that are shown when one comes into a room."""

COLOURS = (
    "green",
    "yellow",
    "blue",
    "magenta",
    "red",
    "bright_green",
    "bright_yellow",
    "bright_blue",
    "bright_magenta",
)


class ChatScreen:
    """One person in one room. Through a pipe: each line is a message, and each answer is printed."""

    def __init__(
        self, side: ChatSide, pool: Pool, terminal: Terminal, out: Console, err: Console, *, is_json: bool = False
    ) -> None:
        self._side = side
        self._pool = pool
        self._teller = Teller(pool)
        self._terminal = terminal
        self._out = out
        self._err = err
        self._is_json = is_json
        self._breaks = Breaks(self._tell, is_brief=terminal.is_interactive)
        self._feed: Feed | None = None
        self._code = EXIT_OK
        self._oldest = 0  # position of the oldest message shown
        self._lately: deque[str] = deque(maxlen=1000)  # who said the last messages

    async def run(self) -> int:
        """Talk until the end. Returns the exit code: 0 for a person, the worst one of a list of messages."""
        terminal = self._terminal
        if isinstance(terminal, PromptTerminal):
            terminal.erase_lines()  # what we say comes back from the room, with everybody else's words
        if terminal.is_interactive:
            self._tell("Type, and press Enter: everybody in the room sees it. /help shows what else there is.")
            self._join(self._side.room)
        while True:
            try:
                line = await terminal.command()
            except Cancelled:
                continue
            if line is None or line.split()[:1] in (["/quit"], ["/exit"]):
                break
            if line.strip():
                await self._perform(line.rstrip())
        if self._feed is not None:
            self._feed.close()
        return EXIT_OK if terminal.is_interactive else self._code

    def on_move(self, move: Move) -> None:
        """Tell the person that we change nodes."""
        self._breaks.on_move(move)

    # Lines

    async def _perform(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if not line.startswith("/"):
            await self._say(line)
        elif word == "/join":
            self._go_to(rest)
        elif word == "/rooms":
            await self._list_rooms()
        elif word == "/who":
            names = sorted(set(self._lately))
            self._tell(f"lately here: {', '.join(map(printable, names)) or 'nobody'}")
        elif word == "/history":
            await self._look_back(rest)
        elif word == "/status":
            self._tell(f"{self._pool.leader or 'not connected'}; {sum(self._pool.reconnects.values())} reconnects")
        elif word == "/help":
            for command, meaning in COMMANDS.items():
                self._show(Text.assemble("  ", (f"{command:<12}", "bold"), meaning))
        else:
            self._complain(f"there is no command {word}; /help lists them (a message cannot begin with /)")

    async def _say(self, body: str) -> None:
        if len(body) > CHAT_BODY_CHARACTERS_MAX:
            self._complain(f"a message has at most {CHAT_BODY_CHARACTERS_MAX} characters, this one has {len(body)}")
            return
        op = self._side.post(self._side.room, body)
        if self._terminal.is_interactive:
            # Not awaited: one may go on typing while the message is under way.
            self._teller.execute_soon(op, self._on_said)
            return
        request = await self._teller.execute(op)
        self._code = max(self._code, exit_code(self._side, request))
        if self._is_json:
            self._out.file.write(json.dumps(as_json(self._side, request, self._pool.leader)) + "\n")
            self._out.file.flush()
        elif exit_code(self._side, request) == EXIT_OK:
            self._out.print(Text(sentence(self._side, request)), soft_wrap=True)
        else:
            self._err.print(Text(sentence(self._side, request), style="red"), soft_wrap=True)

    def _on_said(self, request: Request) -> None:
        """Nothing to tell when all is well: the room shows the message."""
        if request.outcome == OK:
            self._breaks.on_sign()
        if exit_code(self._side, request) != EXIT_OK:
            self._show(Text(f"{printable(request.op.body)}: {sentence(self._side, request)}", style="red"))

    def _go_to(self, text: str) -> None:
        try:
            form = Form.from_words(self._side, ["history", text])
            op = form.op()
        except ValueError as error:
            self._complain(str(error))
        else:
            assert isinstance(op, History)
            self._join(op.room)

    async def _list_rooms(self) -> None:
        after = ""
        while True:
            request = await self._teller.execute(Rooms(after))
            if request.outcome != OK or not isinstance(request.result, RoomList):
                self._complain(sentence(self._side, request))
                return
            for line in request.result.rooms:
                self._show(Text.assemble("  ", (printable(line.name), "bold"), f"  {line.end} messages"))
            if request.result.is_all or not request.result.rooms:
                return
            after = request.result.rooms[-1].name

    async def _look_back(self, text: str) -> None:
        """The messages before the oldest one shown."""
        if text.strip() and not text.strip().isdigit():
            self._complain(f"{text.strip()!r} is not a number of messages")
            return
        stop = self._oldest
        start = max(stop - min(int(text or SHOWN_ON_JOIN), stop), 0)
        while start < stop:
            limit = min(stop - start, CHAT_PAGE_MESSAGES_MAX)
            request = await self._teller.execute(History(self._side.room, start, limit))
            if request.outcome != OK or not isinstance(request.result, Page):
                self._complain(sentence(self._side, request))
                return
            page = request.result
            if page.first >= stop or not page.messages:
                break
            self._oldest = min(self._oldest, page.first)
            self._show(*(self._line(message) for message in page.messages))
            start = page.first + len(page.messages)
        if not self._oldest:
            self._tell("this is where the room began")

    # The room

    def _join(self, room: str) -> None:
        if self._feed is not None:
            self._feed.close()
        self._side.room = room
        self._lately.clear()
        self._oldest = 0
        self._tell(f"— {printable(room)} —")
        self._feed = self._pool.follow(room, -SHOWN_ON_JOIN, self._on_messages, self._on_gap)

    def _on_messages(self, first: int, messages: Sequence[Message]) -> None:
        self._breaks.on_sign()
        if not self._lately:
            self._oldest = first
            if not messages:
                self._tell("nobody has said anything here yet")
        self._lately.extend(message.author for message in messages)
        self._show(*(self._line(message) for message in messages))

    def _on_gap(self, first: int, stop: int) -> None:
        self._tell(f"{stop - first} messages were forgotten before they reached us")

    def _line(self, message: Message) -> Text:
        name = printable(message.author) or "somebody"
        style = "bold cyan" if message.author == self._side.name else COLOURS[crc32(name.encode()) % len(COLOURS)]
        return Text.assemble((clock_time(message.at), "dim"), " ", (name, style), f": {printable(message.body)}")

    # Printing

    def _tell(self, text: str) -> None:
        self._show(Text(text, style="dim"))

    def _complain(self, text: str) -> None:
        self._code = max(self._code, EXIT_USAGE)
        self._show(Text(text, style="red"))

    def _show(self, *lines: Text) -> None:
        if not lines:
            return
        console = self._out if self._terminal.is_interactive else self._err

        def show() -> None:
            for line in lines:
                console.print(line, soft_wrap=True)

        self._terminal.aside(show)
