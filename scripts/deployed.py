"""What deploy/ says: the alerts, the panels of the dashboard, and the metrics that the guide explains."""

import json, re

from checks import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/rfm-stream.json"


def load_all(path):
    from ruamel.yaml import YAML
    return list(YAML(typ="safe").load_all(path.read_text()))


def alerts():
    return [rule for group in load_all(DEPLOY / "prometheus/alerts.yml")[0]["groups"] for rule in group["rules"]]


def panels():
    """Title, legend and query of everything that a panel shows. Grafana's variables have the values that it would give
    them."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            yield panel["title"], target["legendFormat"], expr


def guide_metrics():
    """Those of ours that the guide explains; check-deploy --run compares them with what the programs export."""
    return set(re.findall(r"`(rfm_\w+)(?!\w|::)", (ROOT / "docs/guide.md").read_text()))
