"""paxosctl config, and paxosctl init: what is done before a cluster runs."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import click

from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.core.registry import ENGINES
from paxos_twisted.ctl.command_line import (
    EXIT_CODES,
    EXIT_FAILED,
    Settings,
    exit_with_problems,
    fail,
    options,
    print_json,
)
from paxos_twisted.limits import NODES_MAX
from paxos_twisted.node.config import Config, ConfigError, load, make_config, parse
from paxos_twisted.node.secret import new_secret
from paxos_twisted.storage.directory import create
from paxos_twisted.storage.errors import StoreError


@click.group("config")
def config_group() -> None:
    """Make and check configurations."""


@config_group.command("check", epilog=EXIT_CODES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "place", type=click.Path(path_type=Path), help="Check it as if it stood here (relative paths).")
@click.option("--effective", is_flag=True, help="Print it with every default written out.")
@options
@click.pass_obj
def check(settings: Settings, /, file: Path, place: Path | None, effective: bool, **given: Any) -> None:
    """Check a configuration. All that is wrong with it is named, with file, line and key."""
    settings.take(**given)
    try:
        config = load(file) if place is None else parse(file.read_text(encoding="utf-8"), str(place))
    except (OSError, UnicodeDecodeError) as error:
        exit_with_problems(ConfigError([f"{file}: cannot be read: {error}"]))
    except ConfigError as error:
        if settings.is_json:
            print_json({"file": str(file), "ok": False, "problems": list(error.problems)})
        exit_with_problems(error)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    if settings.is_json:
        print_json({"file": str(file), "ok": True, "digest": config.shared.digest(), "warnings": config.warnings})
    else:
        click.echo(config.effective() if effective else _summary(file, config), nl=not effective)


def _summary(file: Path, config: Config) -> str:
    count = len(config.nodes)
    return (
        f"{file}: ok: {count} nodes of cluster {config.shared.cluster}, {(count - 1) // 2} of them may fail "
        f"({config.shared.engine}, {config.shared.application}, profile {config.profile}, "
        f"digest {config.shared.digest()[:8]})"
    )


@config_group.command("make", epilog=EXIT_CODES)
@click.option(
    "-f", "f", type=click.IntRange(1, (NODES_MAX - 1) // 2), default=1, show_default=True, help="Nodes that may fail."
)
@click.option("--cluster", default="local", show_default=True, help="Name of the cluster.")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="multipaxos", show_default=True)
@click.option("--application", type=click.Choice(list(APPLICATIONS)), default="bank", show_default=True)
@click.option("--profile", type=click.Choice(["default", "lab"]), default="default", show_default=True)
@click.option("--base-port", type=click.IntRange(1, 65_000), default=7100, show_default=True, help="Node i: this + i.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of all nodes.")
@click.option("--data", default="data", show_default=True, help="Folder of the data directories.")
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file, with a secret beside it.")
def make(
    f: int,
    cluster: str,
    engine: str,
    application: str,
    profile: str,
    base_port: int,
    host: str,
    data: str,
    out: Path | None,
) -> None:
    """Make a configuration of 2f+1 nodes on one machine.

    It is printed; or, with --out, written together with a secret, which nodes need to take orders.
    """

    def text(secret: str | None) -> str:
        return make_config(
            f,
            base_port,
            data,
            cluster=cluster,
            engine=engine,
            application=application,
            profile=profile,
            host=host,
            secret_file=secret,
        )

    if out is None:
        click.echo(text(None), nl=False)
        return
    secret_file = out.parent / "secret"
    try:
        (out.parent / data).mkdir(parents=True, exist_ok=True)
        with out.open("x", encoding="utf-8") as file:
            file.write(text("secret"))
        if not secret_file.exists():
            handle = os.open(secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "w", encoding="ascii") as file:
                file.write(new_secret() + "\n")
    except FileExistsError:
        fail(f"{out} exists; it is left as it is")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    click.echo(f"{out}: {2 * f + 1} nodes; {secret_file} holds their secret")


@click.command(epilog=EXIT_CODES)
@click.option("--node-id", "-i", type=int, required=True, help="Which node.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Instead of the configured data directory.")
@options
@click.pass_obj
def init(settings: Settings, /, node_id: int, data_dir: Path | None, **given: Any) -> None:
    """Make the data directory of a new node.

    Do this once in the life of a node. A node whose data was lost has forgotten what it promised: under its old id it
    must not come back.
    """
    config = settings.take(**given).config()
    try:
        config = config.with_node(node_id, data_dir=data_dir)
        config.check_node(node_id)
    except ConfigError as error:
        exit_with_problems(error)
    node = config.node(node_id)
    try:
        identity = create(node.data_dir, config.shared.cluster, node.id)
    except StoreError as error:
        fail(f"node {node_id}: {error}", EXIT_FAILED)
    except (OSError, sqlite3.Error) as error:
        fail(f"node {node_id}: {node.data_dir}: {error}", EXIT_FAILED)
    if settings.is_json:
        print_json({"node": node_id, "data_dir": str(node.data_dir), "identity": identity})
    else:
        click.echo(f"node {node_id}: {node.data_dir} is ready for its first start (identity {identity[:8]})")
