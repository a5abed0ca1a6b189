"""What a run of Inkstone writes while it goes on."""

import json
from pathlib import Path


def step_rows(metrics: Path) -> list[dict]:
    """The steps so far; a line that is being written does not count."""
    if not metrics.exists():
        return []
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in rows if row["event"] == "step"]
