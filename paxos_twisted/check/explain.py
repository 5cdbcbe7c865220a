"""A violation in words: what cannot be explained, what the state was by then, and what came before."""

from collections.abc import Sequence
from typing import Generic

from paxos_twisted.check.history import History, Operation
from paxos_twisted.check.model import Language, Op, Result
from paxos_twisted.check.verdict import Outcome, Reached, Verdict, Violation

LISTED_MAX = 8
"""Operations named in one list."""


def explain(verdict: Verdict[Op, Result], history: History[Op, Result], language: Language[Op, Result]) -> list[str]:
    """The lines of an explanation; none for a history that is ok and has no findings."""
    lines = [f"Finding: {finding}." for finding in verdict.findings]
    if verdict.violation is not None:
        words = _Words(history, language)
        lines += words.violation(verdict.violation, certain=verdict.outcome is Outcome.VIOLATION)
    if verdict.outcome is Outcome.UNKNOWN:
        lines.append(
            f"The budget ended after {verdict.steps} steps in stage {verdict.stage!r}: this history may be "
            "linearizable or not. A larger budget may tell."
        )
    return lines


class _Words(Generic[Op, Result]):
    def __init__(self, history: History[Op, Result], language: Language[Op, Result]) -> None:
        self.history = history
        self.language = language
        self.start = min((operation.call for operation in history.operations), default=0)

    def violation(self, violation: Violation[Op, Result], *, certain: bool) -> list[str]:
        lines = [
            "No order of the operations explains this answer:"
            if certain
            else "The search, which had to leave things out, got stuck at this answer:",
            f"    {self.operation(violation.operation)}",
        ]
        if violation.placed:
            lines.append("Took effect before it, the last ones:")
            lines += self.listed(violation.placed)
        lines.append("The situation then:")
        for number, reached in enumerate(violation.reached):
            lines += self.reached(violation, reached, "    or " if number else "    ")
        if violation.open:
            lines.append(
                "Open at that time, but no choice among them leads to the answer:"
                if certain
                else "Open at that time; not every choice among them was tried:"
            )
            lines += self.listed(violation.open)
        else:
            lines.append("Nothing else was open that could have changed it.")
        if violation.failed:
            lines.append("Reported as failed, so certainly not applied:")
            lines += self.listed(violation.failed)
        if violation.restricted:
            lines.append("The rest of the history is not needed to see this.")
        return lines

    def reached(self, violation: Violation[Op, Result], reached: Reached[Op, Result], indent: str) -> list[str]:
        values = zip(violation.keys, reached.values, strict=True)
        lines = [indent + ", ".join(self.language.say_value(key, value) for key, value in values)]
        if reached.placed:
            lines[0] += ", with the effect of"
            lines += [f"    {line}" for line in self.listed(reached.placed)]
        return lines

    def listed(self, operations: Sequence[Operation[Op, Result]]) -> list[str]:
        lines = [f"    {self.operation(operation)}" for operation in operations[:LISTED_MAX]]
        if len(operations) > LISTED_MAX:
            lines.append(f"    … and {len(operations) - LISTED_MAX} more")
        return lines

    def operation(self, operation: Operation[Op, Result]) -> str:
        """One operation in one line: what, with which end, whose, when and where in the file."""
        end: str = operation.outcome if operation.outcome != "open" else "unknown: never answered"
        if operation.result is not None:
            end = self.language.say_result(operation.result)
        elif operation.reason:
            end += f": {operation.reason}"
        times = f"from {self.time(operation.call)}"
        if operation.end is not None:
            times += f" to {self.time(operation.end)}"
        lines = [str(line) for line in (operation.call_line, operation.end_line) if line]
        place = ""
        if lines:
            name = f"{self.history.sources[operation.source]}, " if len(self.history.sources) > 1 else ""
            place = f", {name}line{'s' if len(lines) > 1 else ''} {' and '.join(lines)}"
        return (
            f"{self.language.say_op(operation.op)} -> {end} "
            f"[request {operation.seq} of client {operation.client}, {times}{place}]"
        )

    def time(self, nanoseconds: int) -> str:
        return f"{(nanoseconds - self.start) / 1e6:.3f} ms"
