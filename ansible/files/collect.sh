#!/bin/sh
# Gather what helps to find out what happened on this machine into /run/paxos-collect.tar.gz. Secrets stay here.
set -u
since=${1:--2h}
d=$(mktemp -d)
journalctl --unit='paxosnode*' --unit='prometheus*' --since="$since" --output=short-iso-precise --no-pager >"$d/journal.txt" 2>&1
journalctl --priority=warning --since="$since" --output=short-iso-precise --no-pager >"$d/warnings.txt" 2>&1
systemctl status --no-pager --lines=0 'paxosnode*' 'prometheus*' 'grafana*' >"$d/services.txt" 2>&1
systemctl cat --no-pager paxosnode.service >"$d/unit.txt" 2>&1
{ date --iso-8601=ns; uptime; free -m; df -h; ip -brief address; nft list ruleset; ls -l /opt/paxos-twisted; } >"$d/machine.txt" 2>&1
for config in /etc/paxosnode/cluster.yml /etc/paxos-twisted/cluster.yml; do
  [ -f "$config" ] && cp "$config" "$d/$(basename "$(dirname "$config")").cluster.yml"
done
ls -l /var/lib/paxosnode/data >"$d/data.txt" 2>&1
if [ -f /etc/paxos-twisted/cluster.yml ]; then
  cd /
  ctl="/usr/local/bin/paxosctl --config /etc/paxos-twisted/cluster.yml"
  $ctl --output json status >"$d/status.json" 2>"$d/status.err"
  for id in $(sed -n 's/^  - {id: \([0-9]*\),.*/\1/p' /etc/paxos-twisted/cluster.yml); do
    $ctl metrics "$id" >"$d/metrics-node$id.txt" 2>&1
  done
fi
if systemctl --quiet is-active prometheus.service; then
  for page in targets rules alerts; do
    python3 - "$page" >"$d/prometheus-$page.json" 2>&1 <<'PY'
import sys, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9090/api/v1/" + sys.argv[1], timeout=5).read().decode())
PY
  done
fi
[ -d /var/lib/paxos-crash ] && cp -r /var/lib/paxos-crash "$d/crash-tests"
tar --create --gzip --file=/run/paxos-collect.tar.gz --directory="$d" .
rm -r "$d"
