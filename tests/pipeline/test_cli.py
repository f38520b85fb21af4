from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.cli import COMMANDS

PROGRAM = """
import pipeline.cli

def group(**_):
    raise {error}

pipeline.cli.group = group
pipeline.cli.main()
"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("BrokenPipeError", ""),
        (
            "KeyboardInterrupt",
            "autotag: stopped; what lies under its final name is whole, and the next call goes on from there\n",
        ),
        ("OSError(28, 'No space left on device', 'x')", "autotag: [Errno 28] No space left on device: 'x'\n"),
    ],
)
def test_closed_pipe_ctrl_c_and_full_disk_end_a_command_without_a_stack_trace(error: str, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(error=error)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, words)


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("apache_beam", ["preprocess", "audio", "annotations.csv", "out"], "preprocessing"),
        ("tfx", ["run"], "tfx"),
        ("pydantic", ["run"], "tfx"),
        ("pydantic", ["runs"], "tfx"),
        ("httpx", ["download", "mtat", "mtat"], "download"),
    ],
)
def test_package_that_is_not_installed_is_said_with_the_extra_that_brings_it(
    package: str, arguments: list[str], extra: str
) -> None:
    program = (
        f"import sys\nsys.modules[{package!r}] = None\n"
        f"from pipeline.cli import main\nsys.argv = ['autotag', *{arguments!r}]\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"pip install 'autotag[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_list_of_commands_is_there_without_importing_any() -> None:
    program = (
        "import sys\nfrom pipeline.cli import main\nsys.argv = ['autotag', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras', 'librosa', 'numpy', 'grpc'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_former_name_of_a_command_says_the_new_one() -> None:
    code = "from pipeline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "download-mtat", "mtat"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "download-mtat is now called: autotag download mtat" in done.stderr
