"""`python -m prometheus.targets cluster.yml > targets/paxosnode.yml`: where Prometheus finds the nodes of a cluster.

The configuration of Prometheus is the same everywhere; what differs stands in the folder `targets` next to it, and
Prometheus reads a changed file by itself. Each target carries the labels `cluster` and `node`, which rules and
dashboards rely on.
"""

import sys
from pathlib import Path

import click
import yaml

from paxos_twisted.node.config import Config, ConfigError, load


def targets(config: Config) -> str:
    """The targets of a cluster's nodes, as a file for `file_sd_configs`. Nodes without HTTP are left out."""
    cluster = config.shared.cluster
    entries = [
        {"targets": [str(node.http)], "labels": {"cluster": cluster, "node": str(node.id)}}
        for node in config.nodes
        if node.http is not None
    ]
    return f"# Nodes of cluster {cluster}.\n" + yaml.safe_dump(entries, sort_keys=False)


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.argument("path", metavar="CLUSTER.YML", type=click.Path(path_type=Path))
def main(path: Path) -> None:
    """Print the targets of the cluster that the file describes."""
    try:
        click.echo(targets(load(path)), nl=False)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
