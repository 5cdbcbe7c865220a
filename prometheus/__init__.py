"""Scraping, recording rules and alerts of Paxos-Twisted, as code.

    thresholds.py   numbers that rules, their texts and dashboards share
    recording.py    recording rules: what is asked for more than once
    alerts.py       alert rules: when somebody should look, and what they read
    rules.py        what a rule is, and its YAML
    targets.py      cluster.yml -> the file that tells Prometheus where the nodes are
    servers.py      a real Prometheus and a real Alertmanager with all of this
    provoke.py      each alert provoked for real, and seen in Alertmanager
    rules/*.yml     generated: `python -m prometheus`
    prometheus.yml  alertmanager.yml   configuration, the same everywhere; machines are named in targets/ only

Build-time only: no part of the wheel, and no node imports it.
"""
