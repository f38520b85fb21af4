"""click's test runner with standard output and error apart, in both generations."""

from __future__ import annotations

import inspect

from click.testing import CliRunner


def separate_streams() -> CliRunner:
    """Return a runner whose result has stdout and stderr: from click 8.2 on always, before where it is asked for."""
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        return CliRunner(mix_stderr=False)
    return CliRunner()
