"""The part of Grafana's SDK that the dashboards use.

The package index holds an older line of the SDK whose version numbers sort above all later ones, so pyproject.toml pins
the version exactly. [conventions CV-21]
"""

import warnings

with warnings.catch_warnings():
    # On import the builders warn that dashboards of the v2 model are preferred. Provisioning from files is safest with
    # the classic one. [conventions CV-23]
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        bargauge,
        heatmap,
        prometheus,
        stat,
        statetimeline,
        table,
        timeseries,
    )
    from grafana_foundation_sdk.builders import common as build_common
    from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as prometheus_model

__all__ = [
    "JSONEncoder",
    "bargauge",
    "build",
    "build_common",
    "common",
    "heatmap",
    "heatmap_model",
    "model",
    "prometheus",
    "prometheus_model",
    "register_default_plugins",
    "stat",
    "statetimeline",
    "table",
    "timeseries",
    "units",
]
