"""Options that the commands of paxoscluster share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from paxos_twisted.limits import NODES_MAX

DIRECTORY: Final = "clusters/local"
"""Where a cluster lives unless --dir says otherwise."""

Function = TypeVar("Function", bound=Callable[..., Any])


def directory_option(function: Function) -> Function:
    """Add --dir."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=DIRECTORY,
        envvar="PAXOS_CLUSTER_DIR",
        show_default=True,
        show_envvar=True,
        help="Where the cluster lives.",
    )(function)


def f_option(function: Function) -> Function:
    """Add -f."""
    most = (NODES_MAX - 1) // 2
    return click.option(
        "-f", "f", type=click.IntRange(1, most), default=1, show_default=True, help="Nodes that may fail, of 2f+1."
    )(function)
