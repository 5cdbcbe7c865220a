"""The manual mode: a person types transactions and is told what became of them."""

import json

from rich.console import Console
from rich.text import Text

from paxos_twisted.limits import BANK_ACCOUNT_MAX
from paxos_twisted_client.connection import NS
from paxos_twisted_client.form import FIELDS, QUESTIONS, WORDS, Form, FormError, usage
from paxos_twisted_client.pool import Move, Pool
from paxos_twisted_client.session import OK, UNKNOWN
from paxos_twisted_client.statistics import summarize
from paxos_twisted_client.teller import EXIT_OK, Teller, as_json, exit_code, sentence
from paxos_twisted_client.terminal import Cancelled, Terminal

MEANINGS = {
    "balance": "what an account holds",
    "deposit": "pay in",
    "withdraw": "take out",
    "transfer": "from ACCOUNT to another account, both or neither",
}

COMMANDS = MEANINGS | dict(
    zip(WORDS, ("where we are connected, and how fast it was", "this list", "leave (also Ctrl-D)"), strict=True)
)

RTTS_KEPT = 100_000
"""Round-trip times kept for `status`; the oldest half goes beyond it."""


class Manual:
    """One conversation."""

    def __init__(self, pool: Pool, terminal: Terminal, out: Console, err: Console, *, is_json: bool = False) -> None:
        self._pool = pool
        self._teller = Teller(pool)
        self._terminal = terminal
        self._out = out
        self._err = err
        self._is_json = is_json
        self._rtts_ns: list[int] = []
        self._code = EXIT_OK

    async def run(self) -> int:
        """Talk until the end. Returns the exit code: 0 for a person, the worst one of a list of commands."""
        interactive = self._terminal.is_interactive
        if interactive:
            self._out.print(
                Text.assemble(
                    "Type a transaction, e.g. ",
                    ("deposit 17 100", "bold"),
                    "; just Enter asks you for account, transaction and amount; ",
                    ("help", "bold"),
                    " and ",
                    ("quit", "bold"),
                    " do what they say.",
                )
            )
        while True:
            try:
                line = await self._terminal.command()
                if line is None or not await self._perform(line.split()):
                    break
            except Cancelled:
                continue
            except FormError as error:
                self._complain(str(error))
        return EXIT_OK if interactive else self._code

    def on_move(self, move: Move) -> None:
        """Tell the person that we change nodes."""
        self._terminal.aside(lambda: self._err.print(Text(f"  {move.text}", style="dim"), soft_wrap=True))

    async def _perform(self, words: list[str]) -> bool:
        """One line. Returns False when it was the last one."""
        word = words[0].lower() if words else ""
        if word in {"quit", "exit"}:
            return False
        if word in {"help", "?"}:
            self._help()
        elif word == "status":
            self._status()
        else:
            form = Form.from_words(words)
            if await self._fill(form):
                await self._execute(form)
        return True

    async def _fill(self, form: Form) -> bool:
        """Ask for what is missing. Returns False when the person changed their mind: an empty answer, or the end."""
        while (field := form.missing()) is not None:
            offered = tuple(FIELDS) if field == "kind" else ()
            text = await self._terminal.answer(QUESTIONS[field], offered)
            if not (text or "").strip():
                self._complain(f"nothing done: no {QUESTIONS[field]} given")
                return False
            assert text is not None
            try:
                form.fill(field, text)
            except FormError as error:
                self._complain(str(error))
                if not self._terminal.is_interactive:
                    return False
        return True

    async def _execute(self, form: Form) -> None:
        request = await self._teller.execute(form.op())
        self._code = max(self._code, exit_code(request))
        if self._is_json:
            self._out.file.write(json.dumps(as_json(request, self._pool.leader)) + "\n")
            self._out.file.flush()
            return
        rtt_ns = request.finished_ns - request.started_ns
        if request.outcome == OK:
            self._rtts_ns.append(rtt_ns)
            if len(self._rtts_ns) > RTTS_KEPT:
                del self._rtts_ns[: RTTS_KEPT // 2]
        if request.outcome == OK and request.result.error is None:
            said = Text(sentence(request))
            if self._terminal.is_interactive:
                said.append(f"  ({rtt_ns / NS * 1000:.1f} ms)", style="dim")
            self._out.print(said, soft_wrap=True)
        else:
            style = "magenta" if request.outcome == UNKNOWN else "yellow" if request.outcome == OK else "red"
            self._err.print(Text(sentence(request), style=style), soft_wrap=True)

    def _complain(self, text: str) -> None:
        self._code = max(self._code, 1)
        self._err.print(Text(text, style="red"), soft_wrap=True)

    def _help(self) -> None:
        for kind, meaning in MEANINGS.items():
            self._out.print(f"  [bold]{usage(kind):<28}[/bold] {meaning}", highlight=False)
        for word in WORDS:
            self._out.print(f"  [bold]{word:<28}[/bold] {COMMANDS[word]}", highlight=False)
        self._out.print(
            Text(
                "  What you leave out is asked for. Words may be shortened (d 17 100); Tab completes.\n"
                f"  Accounts are 0 to {BANK_ACCOUNT_MAX}; they exist once they are used.",
                style="dim",
            )
        )

    def _status(self) -> None:
        pool = self._pool
        self._out.print(f"  {pool.leader or 'not connected'}", highlight=False)
        left = {cause.replace("_", " "): count for cause, count in pool.reconnects.items() if count}
        told = ", ".join(f"{cause} {count}" for cause, count in left.items()) or "none"
        self._out.print(f"  reconnects: {told}", highlight=False)
        if self._rtts_ns:
            summary = summarize(self._rtts_ns)
            self._out.print(
                f"  {summary.count} transactions answered, round trip "
                f"median {summary.median / 1e6:.2f} ms, longest {summary.maximum / 1e6:.1f} ms",
                highlight=False,
            )
