"""The client side of an application: everything that a client program does not share with the others.

One class, in one file, makes a whole program: prompt, single commands, help, bench, history and report.
`docs/clients.md` shows how to add one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import click
from click.core import ParameterSource

OUR_WORDS: Final = {
    "status": "where we are connected, and how fast it was",
    "help": "this list",
    "quit": "leave (also Ctrl-D)",
}
"""What every manual mode understands besides the commands of its application."""

Function = TypeVar("Function", bound=Callable[..., Any])


def is_of_program(context: click.Context, option: click.Parameter) -> bool:
    """Whether a command's option has its value from the environment. Then the program has taken that already; or what
    was typed before the command, which goes first."""
    is_of_environment = context.get_parameter_source(option.name or "") is ParameterSource.ENVIRONMENT
    return context.parent is not None and is_of_environment


class FormError(ValueError):
    """What was typed cannot be used; the text says why, for people."""


class Field(NamedTuple):
    """One word that a command needs."""

    name: str
    """As Python and JSON write it; in capitals it stands in the help."""
    question: str
    """What the manual mode asks, and how complaints begin."""
    read: Callable[[str], Any]
    """The value of what was typed. Raises ValueError with a sentence about the text, without the question."""
    is_piped: bool = False
    """A single command takes it from a pipe to its standard input when it is left out. The last field only."""


class Verb(NamedTuple):
    """One command of the application, as people type it."""

    name: str
    fields: tuple[Field, ...]
    """What it needs, in the order in which it is typed. The manual mode asks for what is missing."""
    make: Callable[..., Any]
    """The operation, from the fields by name. Raises ValueError with a sentence when they do not go together."""
    summary: str
    """For --help, with the fields in capitals: "Pay AMOUNT into ACCOUNT."."""
    meaning: str
    """For the list of the manual mode: "pay in"."""
    optional: tuple[Field, ...] = ()
    """What may follow the fields and is never asked for."""

    @property
    def usage(self) -> str:
        """How it is typed."""
        needed = (field.name.upper() for field in self.fields)
        return " ".join([self.name, *needed, *(f"[{field.name.upper()}]" for field in self.optional)])


class Workload(Protocol):
    """An endless sequence of operations for the bench."""

    def next(self) -> Any:
        """Draw one operation."""
        ...


class ClientSide(ABC):
    """What a program must know of its application. Subclasses say it once; everything else is shared."""

    application: str
    """Its name in the cluster configuration. The program is called <application>client."""
    unit: str = "request"
    """What one operation is called in sentences; the plural adds an s."""
    server: str
    """Who refuses, in sentences: "the bank"."""
    intro: str
    """The first line of the program's --help."""
    examples: Sequence[tuple[str, str]]
    """Lines of the program's --help: arguments, and what they do."""
    example: str
    """A command that the manual mode shows as a greeting."""
    hints: str = ""
    """What the manual mode says below its list of commands."""
    verbs: Sequence[Verb]
    asked_first: Field | None = None
    """A field that the manual mode asks for before the command, and that a line may consist of."""
    asked: str = "the rest"
    """What an empty line is followed by, in the greeting: "account, transaction and amount"."""
    rejected_key: str = "rejected"
    """Under which name the JSON report of the bench counts the answers that `is_rejected`."""

    # Words.

    def split(self, line: str) -> list[str]:
        """Cut a line of the manual mode into words.

        Raises:
            FormError: that cannot be done.
        """
        return line.split()

    # Results.

    @abstractmethod
    def did(self, op: Any, result: Any) -> bool:
        """Whether the answer says that what was asked was done. If not, a single command ends with exit code 1."""

    def is_rejected(self, op: Any, result: Any) -> bool:
        """Whether the bench counts the answer as a "no"."""
        return not self.did(op, result)

    @abstractmethod
    def say(self, op: Any, result: Any) -> str:
        """An answer for people: one line, or several for a list."""

    def note(self, op: Any, result: Any) -> str:
        """What is worth saying beside the answer, for people; "" when nothing is."""
        return ""

    def raw(self, op: Any, result: Any) -> bytes | None:
        """The answer to a single command as a pipe should get it, to the byte; None: as `say` says it."""
        return None

    @abstractmethod
    def op_json(self, op: Any) -> Any:
        """An operation as histories and JSON reports write it: a msgspec struct or a dict, with the word as `kind`.

        It is the inverse of `Language.read_op` of the application's model in `paxos_twisted.check`."""

    @abstractmethod
    def result_json(self, op: Any, result: Any) -> Any:
        """The same for an answer."""

    # The bench.

    def verb_options(self, command: Function) -> Function:
        """Add the application's own options of its single commands to a click command. They keep their values."""
        return command

    def bench_options(self, command: Function) -> Function:
        """Add the application's own options of the bench to a click command."""
        return command

    def workload_of(self, given: dict[str, Any]) -> Mapping[str, Any]:
        """Take (remove) the values of `bench_options` from the values given. They go into the plan and the report.

        Raises:
            click.UsageError: they do not go together.
        """
        return {}

    @abstractmethod
    def workload(self, seed: int, process: int, options: Mapping[str, Any]) -> Workload:
        """What client `process` of a bench does. The same for the same arguments, on every machine, for ever."""

    def say_workload(self, options: Mapping[str, Any]) -> str:
        """The options of the bench in the title of its report; "" when there are none."""
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options.items())

    # The prompt.

    def toolbar(self) -> str:
        """What the bottom line of the prompt shows beside the node in use."""
        return ""

    # Made of the above.

    @property
    def program(self) -> str:
        """What people type."""
        return f"{self.application}client"

    @property
    def words(self) -> dict[str, str]:
        """Everything that the manual mode understands, with its meaning."""
        return {verb.name: verb.meaning for verb in self.verbs} | OUR_WORDS
