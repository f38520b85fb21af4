"""Ready-made ways of training, by name: settings of a network, over which a configuration's own stand.

- ``paper``: plain, as Bengani, Vadivel and Jothi (2019) describe their training, with early stopping.
- ``comparison``: Won et al. 2020 (arXiv 2006.00751, section 3.3, and their published code): Adam and then SGD by a
  timetable of 200 epochs, one random window a clip and epoch, no augmentation, the epoch with the lowest loss.
- ``good``: the plain one with what helped on real music beyond its interval, and nothing else: benchmarks/recipe.py
  makes the figures, docs/explanation/recipes.md has them.
"""

from __future__ import annotations

from typing import Any, Final

RECIPES: Final[dict[str, dict[str, Any]]] = {
    "paper": {"batch_size": 16, "learning_rate": 1e-3, "schedule": "cosine", "patience": 5},
    "comparison": {
        "epochs": 200,
        "batch_size": 16,
        "learning_rate": 1e-4,
        "schedule": "adam_sgd",
        "weight_decay": 1e-4,
        "monitor": "loss",
    },
    "good": {
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "patience": 12,
        "time_shift": True,
        "average": 0.99,
    },
}
