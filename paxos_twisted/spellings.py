"""Options as the systems of our sources spell them: one dash before a whole word, sometimes with "=".

They are written anew before click reads the command line, because click would take `-loss` for five short options.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

_NUMBER = re.compile(r"\d+(\.\d+)?")


class Spelling(NamedTuple):
    """What an option is called here."""

    option: str
    """Empty: the option says what is the case anyway, and is dropped."""
    has_value: bool = True
    unit: str = ""
    """Added to a value that is a bare number."""


CLIENT: Final[dict[str, Spelling]] = {
    "-c": Spelling("--config"),
    "-loss": Spelling("--loss"),
    "-timeout": Spelling("--read-timeout", unit="s"),
    "-client_n": Spelling("--clients"),
    "-manual": Spelling("", has_value=False),
}
"""Those that all client programs know."""


def respell(arguments: Sequence[str], spellings: Mapping[str, Spelling]) -> list[str]:
    """The command line in our own spelling. What stands behind `--` is left alone."""
    result: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*result, word, *words]
        name, equals, value = word.partition("=")
        spelling = spellings.get(name)
        if spelling is None:
            result.append(word)
            continue
        if not spelling.has_value:
            if spelling.option:
                result.append(spelling.option)
            continue
        given = value if equals else next(words, None)
        result.append(spelling.option)
        if given is not None:  # click complains of a missing value better than we could
            result.append(given + spelling.unit if _NUMBER.fullmatch(given) else given)
    return result
