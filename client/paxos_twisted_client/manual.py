"""The manual mode: a person types commands and is told what became of them."""

import json

from rich.console import Console
from rich.text import Text

from paxos_twisted_client.client_side import OUR_WORDS, ClientSide, FormError
from paxos_twisted_client.connection import NS
from paxos_twisted_client.form import VERB, Form
from paxos_twisted_client.pool import Move, Pool
from paxos_twisted_client.session import OK, UNKNOWN
from paxos_twisted_client.statistics import summarize
from paxos_twisted_client.teller import EXIT_OK, Teller, as_json, exit_code, sentence
from paxos_twisted_client.terminal import Cancelled, Terminal

RTTS_KEPT = 100_000
"""Round-trip times kept for `status`; the oldest half goes beyond it."""


class Manual:
    """One conversation."""

    def __init__(
        self, side: ClientSide, pool: Pool, terminal: Terminal, out: Console, err: Console, *, is_json: bool = False
    ) -> None:
        self._side = side
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
                    f"Type {'an' if self._side.unit[0] in 'aeiou' else 'a'} {self._side.unit}, e.g. ",
                    (self._side.example, "bold"),
                    f"; just Enter asks you for {self._side.asked}; ",
                    ("help", "bold"),
                    " and ",
                    ("quit", "bold"),
                    " do what they say.",
                )
            )
        while True:
            try:
                line = await self._terminal.command()
                if line is None or not await self._perform(self._side.split(line)):
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
            form = Form.from_words(self._side, words)
            if await self._fill(form):
                await self._execute(form)
        return True

    async def _fill(self, form: Form) -> bool:
        """Ask for what is missing. Returns False when the person changed their mind: an empty answer, or the end."""
        while (field := form.missing()) is not None:
            question = form.question(field)
            offered = tuple(verb.name for verb in self._side.verbs) if field == VERB else ()
            text = await self._terminal.answer(question, offered)
            if not (text or "").strip():
                self._complain(f"nothing done: no {question} given")
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
        self._code = max(self._code, exit_code(self._side, request))
        if self._is_json:
            self._out.file.write(json.dumps(as_json(self._side, request, self._pool.leader)) + "\n")
            self._out.file.flush()
            return
        rtt_ns = request.finished_ns - request.started_ns
        if request.outcome == OK:
            self._rtts_ns.append(rtt_ns)
            if len(self._rtts_ns) > RTTS_KEPT:
                del self._rtts_ns[: RTTS_KEPT // 2]
        if request.outcome == OK and self._side.did(request.op, request.result):
            said = Text(sentence(self._side, request))
            if self._terminal.is_interactive:
                gap = "\n" if "\n" in said.plain else "  "  # a list's time is not part of its last line
                said.append(f"{gap}({rtt_ns / NS * 1000:.1f} ms)", style="dim")
            self._out.print(said, soft_wrap=True)
            if note := self._side.note(request.op, request.result):
                self._err.print(Text(note, style="dim"), soft_wrap=True)
        else:
            style = "magenta" if request.outcome == UNKNOWN else "yellow" if request.outcome == OK else "red"
            self._err.print(Text(sentence(self._side, request), style=style), soft_wrap=True)

    def _complain(self, text: str) -> None:
        self._code = max(self._code, 1)
        self._err.print(Text(text, style="red"), soft_wrap=True)

    def _help(self) -> None:
        for verb in self._side.verbs:
            self._out.print(Text.assemble("  ", (f"{verb.usage:<28}", "bold"), f" {verb.meaning}"))
        for word, meaning in OUR_WORDS.items():
            self._out.print(Text.assemble("  ", (f"{word:<28}", "bold"), f" {meaning}"))
        if self._side.hints:
            self._out.print(Text(f"  {self._side.hints}", style="dim"))

    def _status(self) -> None:
        pool = self._pool
        self._out.print(f"  {pool.leader or 'not connected'}", highlight=False)
        left = {cause.replace("_", " "): count for cause, count in pool.reconnects.items() if count}
        told = ", ".join(f"{cause} {count}" for cause, count in left.items()) or "none"
        self._out.print(f"  reconnects: {told}", highlight=False)
        if self._rtts_ns:
            summary = summarize(self._rtts_ns)
            self._out.print(
                f"  {summary.count} {self._side.unit}s answered, round trip "
                f"median {summary.median / 1e6:.2f} ms, longest {summary.maximum / 1e6:.1f} ms",
                highlight=False,
            )
