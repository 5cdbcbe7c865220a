"""`bankclient`: the bank's customers. Manual mode, single transactions, and the bench."""

from paxos_twisted_client.bank import BANK
from paxos_twisted_client.program import client_program

cli = client_program(BANK)


def main() -> None:
    """The console script."""
    cli.main(prog_name=BANK.program)
