"""`chatclient`: people who talk. A screen that feels like a chat, single commands, the automatic mode, the bench."""

import json
import secrets
import sys
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import click
from twisted.internet import task
from twisted.internet.defer import Deferred

from paxos_twisted.apps.chat import Message, Posted
from paxos_twisted.apps.struct_json import to_json
from paxos_twisted.spellings import CLIENT, Spelling, respell
from paxos_twisted_client.chat import ChatSide, message_line, random_body
from paxos_twisted_client.chat_screen import ChatScreen
from paxos_twisted_client.connection import NS
from paxos_twisted_client.program import EXIT_CODES, client_program, pool_maker, react
from paxos_twisted_client.settings import DurationType, Settings, shared_options
from paxos_twisted_client.teller import EXIT_OK, EXIT_UNKNOWN, Teller, exit_code, sentence

CHAT: Final = ChatSide()

cli = client_program(CHAT, ChatScreen)

SPELLINGS: Final = CLIENT | {"-uid": Spelling("--name")}


@cli.command(epilog=EXIT_CODES.format(server=CHAT.server))
@shared_options
@CHAT.identity_options
@click.option("--count", type=click.IntRange(0), default=0, help="Messages to send; 0: until Ctrl-C.  [default: 0]")
@click.option("--every", type=DurationType(), default=0.0, help="Pause behind each answer.  [default: none]")
@click.option("--words", type=click.IntRange(1, 100), default=6, show_default=True, help="Words in a message.")
@click.option("--seed", type=int, envvar="PAXOS_SEED", help="Same seed, same words; else a random one.")
@click.pass_obj
def talk(settings: Settings, /, count: int, every: float, words: int, seed: int | None, **given: Any) -> None:
    """Say random things, each when the one before is answered.

    Each message is one line on stdout: its position in the room, its id, how long it took.
    """
    settings.take(given)
    is_json = settings.is_json
    pool_of = pool_maker(CHAT, settings)
    rng = Random(secrets.randbits(64) if seed is None else seed)

    async def run(reactor: Any) -> int:
        pool = pool_of(reactor)
        pool.on_move = lambda move: click.echo(f"({move.text})", err=True)
        teller = Teller(pool)
        code, said = EXIT_OK, 0
        while not count or said < count:
            said += 1
            op = CHAT.post(CHAT.room, random_body(rng, words))
            request = await teller.execute(op)
            code = max(code, exit_code(CHAT, request))
            took_ms = (request.finished_ns - request.started_ns) / NS * 1000
            if is_json:
                result = to_json(request.result) if request.result is not None else None
                line = {"id": op.id.hex(), "outcome": request.outcome, "result": result, "rtt_ms": round(took_ms, 3)}
                click.echo(json.dumps(line))
            elif isinstance(request.result, Posted):
                click.echo(f"{request.result.position} {op.id.hex()} {took_ms:.1f} ms: {op.body}")
            else:
                click.echo(f"{op.id.hex()}: {sentence(CHAT, request)}", err=True)
            sys.stdout.flush()
            if every:
                await task.deferLater(reactor, every)
        await pool.close()
        return code

    react(run)


@cli.command(epilog=EXIT_CODES.format(server=CHAT.server))
@shared_options
@CHAT.identity_options
@click.argument("room", required=False)
@click.option(
    "--from", "start", type=int, default=-20, help="Position to begin with; -20: the last 20.  [default: -20]"
)
@click.option("--count", type=click.IntRange(0), default=0, help="End after so many messages; 0: never.  [default: 0]")
@click.pass_obj
def listen(settings: Settings, /, room: str | None, start: int, count: int, **given: Any) -> None:
    """Print what is said in ROOM as it is said, like tail -f."""
    settings.take(given)
    is_json = settings.is_json
    pool_of = pool_maker(CHAT, settings)

    async def run(reactor: Any) -> int:
        pool = pool_of(reactor)
        pool.on_move = lambda move: click.echo(f"({move.text})", err=True)
        done: Deferred[int] = Deferred()
        left = [count]

        def on_messages(first: int, messages: Sequence[Message]) -> None:
            for position, message in enumerate(messages, first):
                if done.called:
                    return
                if is_json:
                    click.echo(json.dumps({"position": position} | to_json(message)))
                else:
                    click.echo(message_line(message))
                left[0] -= 1
                if not left[0]:
                    done.callback(EXIT_OK)
            sys.stdout.flush()

        def on_gap(first: int, stop: int) -> None:
            click.echo(f"({stop - first} messages were forgotten before they reached us)", err=True)

        pool.follow(room or CHAT.room, start, on_messages, on_gap)
        opened = pool.connect()
        opened.addCallback(lambda _: None if pool.current or done.called else done.callback(EXIT_UNKNOWN))
        code = await done
        if code:
            click.echo(f"not done: {pool.trouble}", err=True)
        await pool.close()
        return code

    react(run)


def main() -> None:
    """The console script."""
    cli.main(respell(sys.argv[1:], SPELLINGS), prog_name=CHAT.program)
