"""Writes Grafana's dashboards, and the chart's copies of them and of the rules: `python -m deploy.generate_dashboards`.

A chart holds its own files only, so what lies in deploy/observability is there a second time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from deploy.dashboard_parts import as_json
from deploy.dashboards import DASHBOARDS
from deploy.generated import main

OBSERVABILITY = Path(__file__).parent / "observability"
CHART_FILES = Path(__file__).parent / "chart" / "castalia" / "files"
RULES = ("recording.yaml", "alerts.yaml")


def files() -> dict[Path, str]:
    """Every file that this module writes. The chart's dashboards are without spaces: they travel in a ConfigMap."""
    written: dict[Path, str] = {}
    for dashboard in DASHBOARDS:
        name, text = f"{dashboard.name}.json", as_json(dashboard)
        written[OBSERVABILITY / "dashboards" / name] = text
        written[CHART_FILES / "dashboards" / name] = json.dumps(json.loads(text), separators=(",", ":")) + "\n"
    for name in RULES:
        written[CHART_FILES / "rules" / name] = (OBSERVABILITY / "rules" / name).read_text()
    return written


if __name__ == "__main__":
    sys.exit(main("deploy.generate_dashboards", __doc__, files))
