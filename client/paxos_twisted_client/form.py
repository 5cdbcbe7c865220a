"""A bank transaction as a form: fields filled from words, questions for what is missing, clear errors."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from paxos_twisted.apps.bank import KIND_NAMES, BankOp
from paxos_twisted.limits import BANK_ACCOUNT_MAX

FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "balance": ("account",),
    "deposit": ("account", "amount"),
    "withdraw": ("account", "amount"),
    "transfer": ("account", "to", "amount"),
}
"""What each kind of transaction needs, in the order in which people type it."""

WORDS: Final = ("status", "help", "quit")
"""What else the manual mode understands; offered when something was mistyped."""

QUESTIONS: Final = {
    "account": "account",
    "kind": f"transaction ({', '.join(FIELDS)})",
    "to": "to account",
    "amount": "amount",
}

INTEGER_MAX: Final = 2**63 - 1
"""Larger numbers do not fit the wire. What a bank refuses below that, the bank itself refuses."""

assert tuple(FIELDS) == KIND_NAMES


class FormError(ValueError):
    """What was typed cannot be used; the text says why, for people."""


class Form:
    """A transaction that is being filled in."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.numbers: dict[str, int] = {}

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Form":
        """Start from what was typed: "deposit 17 100", "deposit", or "17" (an account).

        Raises:
            FormError: unknown transaction, too many words, or not a number.
        """
        form = cls()
        if words and _is_number(words[0]):
            if len(words) > 1:
                raise FormError(f"start with the transaction, e.g. deposit {words[0]} 100")
            form.fill("account", words[0])
        elif words:
            form.fill("kind", words[0])
            assert form.kind is not None
            fields = FIELDS[form.kind]
            if len(words) - 1 > len(fields):
                raise FormError(f"too many words; write {usage(form.kind)}")
            for field, word in zip(fields, words[1:], strict=False):
                form.fill(field, word)
        return form

    def missing(self) -> str | None:
        """The next field to ask for, or None when the form is complete. In the lab's order: account, kind, amount."""
        if self.kind is None:
            return "kind" if "account" in self.numbers else "account"
        for field in FIELDS[self.kind]:
            if field not in self.numbers:
                return field
        return None

    def fill(self, field: str, text: str) -> None:
        """Fill in one field.

        Raises:
            FormError: `text` is not usable there.
        """
        text = text.strip()
        if field == "kind":
            self.kind = find_kind(text)
            return
        name = QUESTIONS[field]
        try:
            number = int(text.replace("_", "").replace("'", ""))
        except ValueError:
            raise FormError(f"{name}: {text!r} is not a whole number") from None
        if field == "amount":
            if abs(number) > INTEGER_MAX:
                raise FormError(f"{name}: {text} is larger than any bank can hold")
        elif not 0 <= number <= BANK_ACCOUNT_MAX:
            raise FormError(f"{name}: {text} is not an account number (0 to {BANK_ACCOUNT_MAX})")
        self.numbers[field] = number

    def op(self) -> BankOp:
        """The transaction, once nothing is missing."""
        assert self.kind is not None
        numbers = self.numbers
        return BankOp(KIND_NAMES.index(self.kind), numbers["account"], numbers.get("amount", 0), numbers.get("to", 0))


def find_kind(text: str) -> str:
    """The kind of transaction that `text` names; a unique beginning is enough.

    Raises:
        FormError: there is none.
    """
    word = text.lower()
    found = [kind for kind in FIELDS if word and kind.startswith(word)]
    if len(found) == 1:
        return found[0]
    near = get_close_matches(word, [*FIELDS, *WORDS], n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join([*FIELDS, *WORDS])}"
    raise FormError(f"unknown command {text!r}{hint}")


def usage(kind: str) -> str:
    """How a transaction is typed."""
    return " ".join([kind, *(field.upper() for field in FIELDS[kind])])


def _is_number(word: str) -> bool:
    return word.lstrip("+-").isdigit()
