"""`auctionclient`: bidders and operators. A screen with a countdown, single commands, automatic bidders, the bench."""

import json
import secrets
import sys
from random import Random
from typing import Any, Final

import click
from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from paxos_twisted.apps.auction import AuctionStatus, Status
from paxos_twisted.spellings import CLIENT, Spelling, respell
from paxos_twisted_client.auction import AuctionSide, status_sentence
from paxos_twisted_client.auction_screen import AuctionScreen
from paxos_twisted_client.bidders import Bidder, report
from paxos_twisted_client.limits import BENCH_CLIENTS_MAX
from paxos_twisted_client.program import EXIT_CODES, client_program, pool_maker, react
from paxos_twisted_client.settings import DurationType, Settings, shared_options
from paxos_twisted_client.teller import EXIT_OK, EXIT_UNKNOWN

AUCTION: Final = AuctionSide()

cli = client_program(AUCTION, AuctionScreen)

SPELLINGS: Final = CLIENT | {"-id": Spelling("--id"), "-uid": Spelling("--id")}


@cli.command(epilog=EXIT_CODES.format(server=AUCTION.server))
@shared_options
@AUCTION.identity_options
@click.option("--count", type=click.IntRange(1, BENCH_CLIENTS_MAX), default=10, show_default=True, help="Bidders.")
@click.option(
    "--every", type=DurationType(), default=0.5, help="Pause between two bids of one bidder.  [default: 500ms]"
)
@click.option("--seed", type=int, envvar="PAXOS_SEED", help="Same seed, same raises and pauses; else a random one.")
@click.pass_obj
def bidders(settings: Settings, /, count: int, every: float, seed: int | None, **given: Any) -> None:
    """Let COUNT bidders outbid each other until the end.

    Then tell who has won. Every acknowledged bid is compared with the result: exit code 3 when one is above it, or the
    winner's own answers say otherwise. --output json lists all bids.
    """
    settings.take(given)
    is_json = settings.is_json
    pool_of = pool_maker(AUCTION, settings)
    rng = Random(secrets.randbits(64) if seed is None else seed)

    async def run(reactor: Any) -> int:
        pools = [pool_of(reactor) for _ in range(count)]
        bidding = [
            Bidder(reactor, pool, AUCTION.auction, f"{AUCTION.bidder}-{number + 1}" if count > 1 else AUCTION.bidder,
                   every, Random(rng.randrange(2**62)))
            for number, pool in enumerate(pools)
        ]  # fmt: skip
        await gatherResults([Deferred.fromCoroutine(bidder.run()) for bidder in bidding])
        final = await pools[0].session().call(Status(AUCTION.auction))
        for pool in pools:
            await pool.close()
        if not isinstance(final.result, AuctionStatus):
            click.echo(f"no result: {final.text or AUCTION.say(final.op, final.result)}", err=True)
            return EXIT_UNKNOWN if final.result is None else 1
        told = report(final.result, bidding)
        if is_json:
            click.echo(json.dumps(told, indent=2))
        else:
            click.echo(status_sentence(final.result))
            click.echo(
                f"{count} bidders made {told['bids']} bids: {told['success']} succeeded, {told['fail']} failed, "
                f"{told['exception']} exceptions, {told['unknown']} without an answer; "
                f"{told['reconnects']} times a bidder changed nodes"
            )
            for finding in told["findings"]:
                click.echo(click.style(finding, fg="red"), err=True)
        sys.stdout.flush()
        return 3 if told["findings"] else EXIT_OK

    react(run)


@cli.command(epilog=EXIT_CODES.format(server=AUCTION.server))
@shared_options
@AUCTION.identity_options
@click.option("--every", type=DurationType(), default=1.0, help="Pause between two questions.  [default: 1s]")
@click.pass_obj
def watch(settings: Settings, /, every: float, **given: Any) -> None:
    """Print how the auction stands again and again, until the end."""
    settings.take(given)
    pool_of = pool_maker(AUCTION, settings)

    async def run(reactor: Any) -> int:
        pool = pool_of(reactor)
        session = pool.session()
        while True:
            request = await session.call(AUCTION.status())
            if not isinstance(request.result, AuctionStatus):
                click.echo(request.text or AUCTION.say(request.op, request.result), err=True)
                await pool.close()
                return EXIT_UNKNOWN if request.result is None else 1
            click.echo(status_sentence(request.result))
            sys.stdout.flush()
            if not request.result.is_live:
                await pool.close()
                return EXIT_OK
            await task.deferLater(reactor, every)

    react(run)


def main() -> None:
    """The console script."""
    cli.main(respell(sys.argv[1:], SPELLINGS), prog_name=AUCTION.program)
