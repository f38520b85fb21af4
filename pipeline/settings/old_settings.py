"""Settings of autotag 0.1, read as they are written today."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


def convert_old(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Return settings as they are written today, with a line in the log where they were written as in 0.1.

    ``branches`` are ``networks``; ``ensemble``, a list, is one of ``ensembles`` and what is pushed; ``data.n_tags`` and
    ``data.tags`` are ``data.heads.tags``.
    """
    values, old = dict(values), []
    if "branches" in values:
        old.append("branches")
        mine = values.pop("branches") or {}
        networks = dict(values.get("networks") or {})
        for name, settings in mine.items():
            networks[name] = {**(networks.get(name) or {}), **(settings or {})}
        values["networks"] = networks
    if "ensemble" in values:
        old.append("ensemble")
        chosen = values.pop("ensemble")
        if isinstance(chosen, list | tuple) and len(chosen) == 1:
            values["push"] = chosen[0]
        else:
            values["ensembles"] = {"all": {"of": chosen, "combiner": "dense", "fit": "in_sample"}}
            values["push"] = "all"
    data = values.get("data")
    if isinstance(data, dict) and data.keys() & {"n_tags", "tags"}:
        old += [f"data.{key}" for key in ("n_tags", "tags") if key in data]
        data = dict(data)
        count, tags = data.pop("n_tags", None), data.pop("tags", None)
        head = {"tags": tags} if tags is not None else {"top": count}
        values["data"] = {**data, "heads": {"tags": head}}
    if old:
        log.warning(
            "%s: %s as in autotag 0.1; `autotag run --show-config` prints it as it is written today",
            source,
            ", ".join(old),
        )
    return values
