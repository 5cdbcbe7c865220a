"""The applied log shows what is in each slot of a series, however its run was cut."""

from pathlib import Path

import pytest

from paxos_twisted.apps.bank import DEPOSIT, BankOp
from paxos_twisted.core.command import Command, Series
from paxos_twisted.node.applied_log import AppliedLog, read_applied
from paxos_twisted.types import ClientId, Slot

ONE = ClientId(7)
OPS = tuple(BankOp(DEPOSIT, account, 1) for account in (1, 2, 3))


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_each_operation_stands_in_its_slot(tmp_path: Path, cut: int) -> None:
    log = AppliedLog(tmp_path / "applied")
    commands = [Series(ONE, -1, 1, 1, OPS), None, None, Command(ONE, -1, 2, 2, BankOp(DEPOSIT, 9, 1)), None]
    log.on_applied(Slot(10), commands[:cut])
    log.on_applied(Slot(10 + cut), commands[cut:])
    log._file.close()
    found = read_applied(tmp_path / "applied")
    accounts = [entry["op"] and entry["op"]["account"] for _, entry in sorted(found.items())]
    assert accounts == [1, 2, 3, 9, None]
    assert [found[Slot(slot)].get("seq") for slot in range(10, 15)] == [1, 1, 1, 2, None]
