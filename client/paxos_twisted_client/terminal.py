"""Where the manual mode reads its lines: a terminal with history and completion, or a pipe."""

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app_or_none, run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.shortcuts import CompleteStyle
from twisted.internet.defer import Deferred


class Cancelled(Exception):
    """The person pressed Ctrl-C: forget what was begun."""


class Terminal(Protocol):
    """Something that can be asked for a line."""

    is_interactive: bool

    async def command(self) -> str | None:
        """The next command, None at the end. Raises Cancelled."""
        ...

    async def answer(self, question: str, words: Iterable[str]) -> str | None:
        """The answer to a question, None at the end. `words` are offered for completion. Raises Cancelled."""
        ...

    def aside(self, show: Callable[[], None]) -> None:
        """Print something at any time, without disturbing what is being typed."""
        ...


class PipeTerminal:
    """Lines from a pipe or a file, read by a thread as they are wanted: a file cannot be watched by a reactor."""

    is_interactive = False

    def __init__(self, reactor: Any, file: IO[str]) -> None:
        self._reactor = reactor
        self._file = file
        self._wanted: queue.SimpleQueue[Deferred[str | None]] = queue.SimpleQueue()
        # A daemon, so that a line that never comes does not keep the program alive.
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def command(self) -> str | None:
        """The next line that is neither empty nor a comment (#)."""
        while (line := await self._line()) is not None:
            if line.strip() and not line.lstrip().startswith("#"):
                return line.strip()
        return None

    async def answer(self, question: str, words: Iterable[str]) -> str | None:
        """The next line. Questions are not printed: nobody reads them."""
        return await self._line()

    def aside(self, show: Callable[[], None]) -> None:
        """Nothing is being typed."""
        show()

    async def _line(self) -> str | None:
        line: Deferred[str | None] = Deferred()
        self._wanted.put(line)
        return await line

    def _read(self) -> None:
        while True:
            wanted = self._wanted.get()
            try:
                line = self._file.readline()
            except (OSError, ValueError):
                line = ""
            self._reactor.callFromThread(wanted.callback, line.rstrip("\n") if line else None)


class PromptTerminal:
    """A terminal. Needs a reactor that runs on asyncio."""

    is_interactive = True

    def __init__(self, name: str, words: dict[str, str], toolbar: Callable[[], str]) -> None:
        """`name` stands before the prompt; `words` are the commands with a short explanation each; `toolbar` is shown
        at the bottom."""
        self._prompt = HTML("<b><ansicyan>{}&gt;</ansicyan></b> ").format(name)
        self._toolbar = toolbar
        self._commands: PromptSession[str] = PromptSession(
            history=_history(name),
            auto_suggest=AutoSuggestFromHistory(),
            completer=_Words(words),
            complete_style=CompleteStyle.COLUMN,
            complete_while_typing=False,
            bottom_toolbar=self._bottom,
            refresh_interval=0.5,
            interrupt_exception=Cancelled,  # asyncio lets a KeyboardInterrupt end the whole loop
        )
        self._answers: PromptSession[str] = PromptSession(
            history=InMemoryHistory(),
            bottom_toolbar=self._bottom,
            refresh_interval=0.5,
            interrupt_exception=Cancelled,
        )

    def erase_lines(self) -> None:
        """A line disappears once it is typed: the program shows what became of it."""
        self._commands.app.erase_when_done = True

    async def command(self) -> str | None:
        """A line at the main prompt."""
        return await self._ask(self._commands, self._prompt, None)

    async def answer(self, question: str, words: Iterable[str]) -> str | None:
        """A line behind a question."""
        return await self._ask(self._answers, f"  {question}: ", _Words(dict.fromkeys(words, "")))

    def aside(self, show: Callable[[], None]) -> None:
        """Above the prompt, if there is one now."""
        if get_app_or_none() is None:
            show()
        else:
            run_in_terminal(show)

    async def _ask(self, session: "PromptSession[str]", text: Any, completer: Completer | None) -> str | None:
        arguments: dict[str, Any] = {} if completer is None else {"completer": completer}
        # Twisted owns the signal handlers; in raw mode Ctrl-C comes as a key anyhow.
        prompt = session.prompt_async(text, handle_sigint=False, **arguments)
        try:
            return await Deferred.fromFuture(asyncio.ensure_future(prompt))
        except EOFError:
            return None

    def _bottom(self) -> str:
        return f" {self._toolbar()} "


class _Words(Completer):
    """Completes the first word of a line."""

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words

    def get_completions(self, document: Document, complete_event: object) -> Iterable[Completion]:
        typed = document.text_before_cursor.lstrip()
        if " " in typed:
            return
        for word, meaning in self._words.items():
            if word.startswith(typed.lower()):
                yield Completion(word, start_position=-len(typed), display_meta=meaning)


def history_path(name: str) -> Path:
    """Where typed commands are kept: $XDG_STATE_HOME/paxos-twisted/<name>client-history."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "paxos-twisted" / f"{name}client-history"


def _history(name: str) -> History:
    path = history_path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        print(f"commands are not kept: {path}: {error.strerror}", file=sys.stderr)
        return InMemoryHistory()
    return FileHistory(str(path))
