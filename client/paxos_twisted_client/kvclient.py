"""`kvclient`: people and programs that keep values under keys. Manual mode, single commands, and the bench."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

import click

from paxos_twisted.apps.kv import (
    CompareAndSet,
    Delete,
    Deleted,
    Denied,
    Different,
    Get,
    KvOp,
    KvResult,
    List,
    Page,
    Put,
    Value,
)
from paxos_twisted.apps.kv_json import op_json, result_json, show
from paxos_twisted.limits import KV_KEY_BYTES_MAX, KV_PAGE_KEYS_MAX, KV_VALUE_BYTES_MAX
from paxos_twisted_client.client_side import ClientSide, Field, FormError, Function, Verb
from paxos_twisted_client.kv_workload import DISTRIBUTIONS, KINDS, UNIFORM, ZIPF, KvWorkload
from paxos_twisted_client.limits import BENCH_KEYS_MAX
from paxos_twisted_client.program import client_program


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("keys are text in UTF-8, this is not") from None
    return text


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # a word of the command line may be any bytes


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= KV_PAGE_KEYS_MAX):
        raise ValueError(f"{text!r} is not a number from 1 to {KV_PAGE_KEYS_MAX}")
    return int(text)


def _create(key: str, value: bytes) -> CompareAndSet:
    return CompareAndSet(key, None, value)


KEY: Final = Field("key", "key", _text)
VALUE: Final = Field("value", "value", _bytes, is_piped=True)
EXPECTED: Final = Field("expected", "expected value", _bytes)
PREFIX: Final = Field("prefix", "prefix", _text)
AFTER: Final = Field("after", "key after which to begin", _text)
LIMIT: Final = Field("limit", "limit", _limit)


class Mix(click.ParamType[dict[str, float]]):
    """Shares of operations, e.g. get=80,put=20."""

    name = "mix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """Percentages by kind, in the order of `KINDS`, without those that are 0."""
        if isinstance(value, dict):
            return value
        shares: dict[str, float] = {}
        for part in value.split(","):
            kind, _, text = part.strip().partition("=")
            try:
                share = float(text)
            except ValueError:
                share = -1.0
            if kind not in KINDS or kind in shares or not 0 <= share <= 100:
                self.fail(f"{part.strip()!r} is not one of {', '.join(KINDS)}, each once, with =PERCENT", param, ctx)
            shares[kind] = share
        if sum(shares.values()) != 100:
            self.fail(f"{value!r} adds up to {sum(shares.values()):g} %, not to 100 %", param, ctx)
        return {kind: shares[kind] for kind in KINDS if shares.get(kind)}


class KvSide(ClientSide):
    """The client side of `paxos_twisted.apps.kv`."""

    application = "kv"
    unit = "operation"
    server = "the store"
    intro = "Clients of the replicated key-value store."
    examples = (
        ("", "type operations at a prompt"),
        ("put greeting hello", "one operation; a value may also come from a pipe"),
        ("get greeting", "print the value, to a pipe byte by byte"),
        ("--bench --reads 90", "many random ones, 90 % gets, with statistics"),
    )
    example = "put greeting hello"
    asked = "the operation and what it needs"
    hints = (
        "What you leave out is asked for. Words may be shortened; Tab completes; 'quotes' keep blanks together.\n"
        f"  Keys are text of up to {KV_KEY_BYTES_MAX} bytes, values up to {KV_VALUE_BYTES_MAX} bytes."
    )
    verbs = (
        Verb("get", (KEY,), Get, "Print what KEY holds; exit code 1 when it does not exist.", "what a key holds"),
        Verb("put", (KEY, VALUE), Put, "Let KEY hold VALUE, or what comes from a pipe.", "let a key hold a value"),
        Verb("create", (KEY, VALUE), _create, "Let KEY hold VALUE if there is no KEY.", "the same for new keys only"),
        Verb(
            "cas",
            (KEY, EXPECTED, VALUE),
            CompareAndSet,
            "Compare and set: let KEY hold VALUE if it holds EXPECTED.",
            "the same if it holds the expected value",
        ),
        Verb("delete", (KEY,), Delete, "Let KEY not exist.", "forget a key"),
        Verb(
            "list",
            (),
            List,
            "Print the keys that begin with PREFIX, and their values. From behind the key AFTER on, LIMIT at most.",
            "keys and values in order",
            optional=(PREFIX, AFTER, LIMIT),
        ),
    )

    def split(self, line: str) -> list[str]:
        """As a shell does."""
        try:
            return shlex.split(line)
        except ValueError:
            raise FormError("a quote is not closed, or nothing follows a backslash") from None

    def did(self, op: KvOp, result: KvResult) -> bool:
        """A value was found, set or deleted. What did not exist need not be deleted: that is done, too."""
        return not (isinstance(result, Different | Denied) or (isinstance(result, Value) and result.value is None))

    def is_rejected(self, op: KvOp, result: KvResult) -> bool:
        """A get of nothing is not the store's refusal."""
        return isinstance(result, Different | Denied)

    def say(self, op: KvOp, result: KvResult) -> str:
        """The value, the pairs, or what became of it."""
        match result:
            case Value(value):
                assert isinstance(op, Get)
                return f"{op.key} does not exist" if value is None else show(value)
            case Deleted(was_there):
                return "deleted" if was_there else "did not exist"
            case Different(was_there):
                assert isinstance(op, CompareAndSet)
                if op.expected is None:
                    return f"not done: {op.key} exists"
                return f"not done: {op.key} holds another value" if was_there else f"not done: {op.key} does not exist"
            case Page(pairs):
                return "\n".join(f"{key}\t{show(value)}" for key, value in pairs) or "no such keys"
            case Denied(error):
                return f"refused: {error}"
        return "done"

    def note(self, op: KvOp, result: KvResult) -> str:
        """Where a list goes on."""
        if isinstance(op, List) and isinstance(result, Page) and result.more:
            words = [op.prefix, result.pairs[-1][0], *([] if op.limit == KV_PAGE_KEYS_MAX else [str(op.limit)])]
            return f"there are more: list {shlex.join(words)}"
        return ""

    def raw(self, op: KvOp, result: KvResult) -> bytes | None:
        """A value byte by byte; a list as lines of key, tab, value."""
        if isinstance(result, Value):
            return result.value
        if isinstance(result, Page):
            return "".join(f"{key}\t{show(value)}\n" for key, value in result.pairs).encode()
        return None

    def op_json(self, op: KvOp) -> dict[str, object]:
        """See docs/history.md."""
        return op_json(op)

    def result_json(self, op: KvOp, result: KvResult) -> dict[str, object]:
        """See docs/history.md."""
        return result_json(result)

    def bench_options(self, command: Function) -> Function:
        """What is read and written."""
        percent = click.FloatRange(0, 100)
        options = [
            click.option("--reads", type=percent, help="Bench: percentage of gets; the rest are puts.  [default: 50]"),
            click.option(
                "--mix",
                type=Mix(),
                metavar="KIND=PERCENT,…",
                help=f"Bench: instead of --reads, percentages of {', '.join(KINDS)}.",
            ),
            click.option(
                "--keys",
                type=click.IntRange(1, BENCH_KEYS_MAX),
                default=1000,
                show_default=True,
                help="Bench: number of keys; with --conflicts, of each client.",
            ),
            click.option(
                "--distribution",
                type=click.Choice(DISTRIBUTIONS),
                help="Bench: how keys are drawn: all alike, or few of them often.  [default: uniform]",
            ),
            click.option(
                "--skew",
                type=click.FloatRange(0, 5),
                help="Bench: with zipf, key number i is drawn in proportion to 1 / i**SKEW.  [default: 0.99]",
            ),
            click.option(
                "--conflicts",
                type=percent,
                help="Bench: percentage of operations on one key that all clients share; the others are on keys of the "
                "client's own.",
            ),
            click.option(
                "--value-size",
                type=click.IntRange(0, KV_VALUE_BYTES_MAX),
                default=100,
                show_default=True,
                help="Bench: bytes of a value.",
            ),
        ]
        for option in reversed(options):
            command = option(command)
        return command

    def workload_of(self, given: dict[str, Any]) -> dict[str, Any]:
        """Everything that says which operations are drawn."""
        reads, mix = given.pop("reads"), given.pop("mix")
        keys, value_size = given.pop("keys"), given.pop("value_size")
        distribution, skew, conflicts = given.pop("distribution"), given.pop("skew"), given.pop("conflicts")
        if reads is not None and mix is not None:
            raise click.UsageError("--reads and --mix exclude each other")
        if conflicts is not None and (distribution is not None or skew is not None):
            raise click.UsageError("--conflicts and --distribution exclude each other: it says which keys are drawn")
        if skew is not None and distribution != ZIPF:
            raise click.UsageError("--skew belongs to --distribution zipf")
        reads = 50.0 if reads is None else reads
        mix = mix or {kind: share for kind, share in (("get", reads), ("put", 100 - reads)) if share}
        options = {"mix": mix, "keys": keys, "value_size": value_size}
        if conflicts is not None:
            return options | {"conflicts": conflicts}
        options["distribution"] = distribution or UNIFORM
        return options | ({"skew": 0.99 if skew is None else skew} if distribution == ZIPF else {})

    def workload(self, seed: int, process: int, options: Mapping[str, Any]) -> KvWorkload:
        """See `KvWorkload`."""
        return KvWorkload(seed, process, options)

    def say_workload(self, options: Mapping[str, Any]) -> str:
        """E.g. "get 50 %, put 50 %, 1000 keys, uniform, 100 bytes"."""
        words = [f"{kind} {share:g} %" for kind, share in options["mix"].items()]
        words.append(f"{options['keys']} keys")
        if "conflicts" in options:
            words.append(f"conflicts {options['conflicts']:g} %")
        else:
            words.append(options["distribution"] + (f" {options['skew']:g}" if "skew" in options else ""))
        return ", ".join([*words, f"{options['value_size']} bytes"])


KV: Final = KvSide()

cli = client_program(KV)


def main() -> None:
    """The console script."""
    cli.main(prog_name=KV.program)
