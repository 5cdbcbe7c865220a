"""A command as a form: fields filled from words, questions for what is missing, clear errors."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final

from paxos_twisted_client.client_side import OUR_WORDS, ClientSide, Field, FormError, Verb

VERB: Final = "kind"
"""Name of the field that is the command itself."""


class Form:
    """A command that is being filled in."""

    def __init__(self, side: ClientSide) -> None:
        self.side = side
        self.verb: Verb | None = None
        self.values: dict[str, Any] = {}

    @classmethod
    def from_words(cls, side: ClientSide, words: Sequence[str]) -> "Form":
        """Start from what was typed: a command with its fields, or the field that the application asks for first.

        Raises:
            FormError: unknown command, too many words, or a word that is not usable.
        """
        form = cls(side)
        form._take(words)
        return form

    def _take(self, words: Sequence[str]) -> None:
        first = self.side.asked_first
        if first is not None and words and _is_number(words[0]):
            if len(words) > 1:
                raise FormError(f"start with the {self.side.unit}, e.g. {self.side.example}")
            self._set(first, words[0])
        elif words:
            self.verb = find_verb(self.side, words[0])
            fields = (*self.verb.fields, *self.verb.optional)
            if len(words) - 1 > len(fields):
                raise FormError(f"too many words; write {self.verb.usage}")
            for field, word in zip(fields, words[1:], strict=False):
                self._set(field, word)

    def missing(self) -> str | None:
        """The next field to ask for, or None when the form is complete."""
        if self.verb is None:
            first = self.side.asked_first
            return VERB if first is None or first.name in self.values else first.name
        for field in self.verb.fields:
            if field.name not in self.values:
                return field.name
        return None

    def question(self, name: str) -> str:
        """How a field is asked for."""
        if name == VERB:
            return f"{self.side.unit} ({', '.join(verb.name for verb in self.side.verbs)})"
        return self._field(name).question

    def fill(self, name: str, text: str) -> None:
        """Fill in one field.

        Raises:
            FormError: `text` is not usable there.
        """
        if name == VERB:
            self.verb = find_verb(self.side, text.strip())
        else:
            self._set(self._field(name), text)

    def op(self) -> Any:
        """The operation, once nothing is missing.

        Raises:
            FormError: the fields do not go together.
        """
        assert self.verb is not None
        taken = {field.name for field in (*self.verb.fields, *self.verb.optional)}
        try:
            return self.verb.make(**{name: value for name, value in self.values.items() if name in taken})
        except ValueError as error:
            raise FormError(str(error)) from None

    def _field(self, name: str) -> Field:
        first = self.side.asked_first
        if first is not None and name == first.name:
            return first
        assert self.verb is not None
        return next(field for field in (*self.verb.fields, *self.verb.optional) if field.name == name)

    def _set(self, field: Field, text: str) -> None:
        try:
            self.values[field.name] = field.read(text)
        except FormError:
            raise
        except ValueError as error:
            raise FormError(f"{field.question}: {error}") from None


def find_verb(side: ClientSide, text: str) -> Verb:
    """The command that `text` names; a unique beginning is enough.

    Raises:
        FormError: there is none.
    """
    word = text.lower()
    found = [verb for verb in side.verbs if verb.name == word]
    found = found or [verb for verb in side.verbs if word and verb.name.startswith(word)]
    if len(found) == 1:
        return found[0]
    words = [*(verb.name for verb in side.verbs), *OUR_WORDS]
    near = get_close_matches(word, words, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(words)}"
    raise FormError(f"unknown command {text!r}{hint}")


def _is_number(word: str) -> bool:
    return word.lstrip("+-").isdigit()
