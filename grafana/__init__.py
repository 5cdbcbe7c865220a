"""Dashboards of Paxos-Twisted, as code.

    queries.py    what is asked of Prometheus
    looks.py      kinds of panels, and how they look
    layout.py     where panels are, and what all dashboards have in common
    panels.py     each panel: a query, a look, a sentence
    pages.py      the dashboards: which panels tell their story, and in which order
    sketch.py     docs/dashboards.md: the pages as drawings
    sdk.py        the part of Grafana's SDK that is used
    dashboards/   generated: `python -m grafana`
    provisioning/ files that make a Grafana server show them

Build-time only: needs the dependency group `monitoring`, and no node imports it.
"""
