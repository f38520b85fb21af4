"""A comparison of three networks on made-up probabilities, with curves counted from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from serving.page.answers import PageError

TAGS = ("guitar", "vocal")
CLIPS = 400
POSITIVES = 100
THRESHOLD = 0.5
COSTS = {"large": 8_000_000, "middle": 600_000, "small": 4_000}
SKILL = {"large": 1.4, "middle": 1.0, "small": 0.4}
"""How far apart a network's scores lie for clips with a tag and without."""

LABELS = np.arange(CLIPS) < POSITIVES


def scores(name: str, tag: str) -> Any:
    """Float64 [CLIPS], probabilities."""
    noise = np.random.default_rng([TAGS.index(tag), len(name)]).normal(size=CLIPS)
    return 1 / (1 + np.exp(-(2 * SKILL[name] * (LABELS - 0.5) + noise)))


class Boards:
    """Implements serving.page.leaderboards.Leaderboards."""

    def read(self, check: Any) -> dict[str, Any]:
        rows = [self._row(name) for name in ("middle", "large", "small")]
        runs = [
            {"config": "demo", "run": "older", "started": "2026-11-01T10:00:00Z", "state": "complete"}
            | {"roc_auc": 0.81, "pr_auc": 0.4, "pushed": True},
            {"config": "demo", "run": "newer", "started": "2026-11-02T10:00:00Z", "state": "failed"}
            | {"roc_auc": None, "pr_auc": None, "pushed": False},
        ]
        data = [{"name": "made-up", "clips": CLIPS, "tags": list(TAGS), "rows": rows}]
        return {"boards": [{"name": "sizes", "data": data}], "runs": runs}

    def _row(self, name: str) -> dict[str, Any]:
        value = float(np.mean([roc_auc_score(LABELS, scores(name, tag)) for tag in TAGS]))
        costs = {"parameters": COSTS[name], "megabytes": COSTS[name] / 2**18, "seconds_per_1000": None}
        return {
            "name": name,
            "network": name,
            "recipe": "paper",
            "seeds": 3,
            "figures": {"roc_auc": {"value": value, "low": value - 0.02, "high": value + 0.02}},
            "costs": costs | {"training_minutes": None},
            "published": [{"source": "a paper", "split": "another", "roc_auc": 0.9, "pr_auc": None}],
            "deformed": {"noise": {"roc_auc": value - 0.1, "drop": 0.1}},
            "current": name != "small",
        }

    def curve(self, board: str, data: str, row: str, tag: str, check: Any) -> dict[str, Any]:
        if row == "small":
            raise PageError(404, "the scores of ‘small’ were not kept, so it has no curves")
        probabilities = scores(row, tag)
        false_rates, true_rates, at = roc_curve(LABELS, probabilities, drop_intermediate=False)
        precision, recall, at_precision = precision_recall_curve(LABELS, probabilities)
        edges = np.linspace(0, 1, 21)
        return {
            "roc": {
                "false_positive_rate": false_rates.tolist(),
                "true_positive_rate": true_rates.tolist(),
                "thresholds": [None, *at[1:].tolist()],
            },
            "pr": {
                "recall": recall.tolist(),
                "precision": precision.tolist(),
                "thresholds": [*at_precision.tolist(), None],
            },
            "threshold": THRESHOLD,
            "positives": POSITIVES,
            "clips": CLIPS,
            "histogram": {
                "edges": edges.tolist(),
                "positive": np.histogram(probabilities[LABELS], edges)[0].tolist(),
                "negative": np.histogram(probabilities[~LABELS], edges)[0].tolist(),
            },
        }
