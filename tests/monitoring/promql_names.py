"""Which metrics and labels an expression names. Not a parser of PromQL: just enough of one for ours."""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r"""
    (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<range>\[[^\]]*\])
  | (?P<number>\d[\w.]*)
  | (?P<word>[A-Za-z_:][\w:]*)
  | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},])
  | (?P<space>\s+)
  | (?P<wrong>.)
    """,
    re.VERBOSE,
)

WITH_LABELS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
OTHER_WORDS = {"and", "or", "unless", "bool", "offset"}


class Selector(NamedTuple):
    """metric{label op "value", …}"""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


class Named(NamedTuple):
    """What an expression names."""

    selectors: list[Selector]
    labels: set[str]
    """In `by (…)`, `on (…)` and the like."""


def named(expr: str) -> Named:
    """Metrics with their matchers, and labels of groupings.

    Raises:
        ValueError: a character that does not occur in PromQL.
    """
    tokens = []
    for match in TOKEN.finditer(expr):
        if match.lastgroup == "wrong":
            raise ValueError(f"{match.group()!r} in {expr}")
        if match.lastgroup not in ("space", "range"):
            tokens.append((str(match.lastgroup), match.group()))
    result = Named([], set())
    index = 0
    while index < len(tokens):
        kind, word = tokens[index]
        following = tokens[index + 1][1] if index + 1 < len(tokens) else ""
        if kind != "word" or word in OTHER_WORDS:
            index += 1
        elif word in WITH_LABELS and following == "(":
            end = tokens.index(("sign", ")"), index)
            result.labels.update(text for inner, text in tokens[index:end] if inner == "word" and text != word)
            index = end
        elif word in WITH_LABELS or following == "(" or word in ("sum", "min", "max", "count", "quantile"):
            index += 1
        elif following == "{":
            end = tokens.index(("sign", "}"), index)
            parts = [text for _, text in tokens[index + 2 : end] if text != ","]
            matchers = zip(parts[0::3], parts[1::3], (text[1:-1] for text in parts[2::3]), strict=True)
            result.selectors.append(Selector(word, tuple(matchers)))
            index = end
        else:
            result.selectors.append(Selector(word, ()))
            index += 1
    return result
