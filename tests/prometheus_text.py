"""A strict reader of Prometheus' text format."""

from __future__ import annotations

import re

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*"(?:,(?!\})|(?=\})))*)\} (\S+)'
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
VALUE = re.compile(r"[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN")
ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parse(text: str) -> Samples:
    """Read Prometheus' text format strictly: HELP, TYPE and then the samples of one metric after the other."""
    assert text.endswith("\n")
    samples: Samples = {}
    seen: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in seen
            seen.append(name)
            typed = False
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {seen[-1]} gauge"
            typed = True
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert found[1] == seen[-1]
            assert typed
            assert VALUE.fullmatch(found[3]), line
            labels = [
                (key, re.sub(r'\\[\\"n]', lambda mark: ESCAPED[mark[0]], value))
                for key, value in LABEL.findall(found[2])
            ]
            key = (found[1], tuple(sorted(labels)))
            assert key not in samples
            samples[key] = float(found[3])
    return samples
