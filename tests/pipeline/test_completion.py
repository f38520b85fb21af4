"""Completion by click's own protocol, in a real bash, and without waiting for what is heavy."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_runner import AUTOTAG, autotag

PATH = f"{Path(AUTOTAG).parent}{os.pathsep}{os.environ['PATH']}"


def completions(*words: str) -> list[str]:
    """What click says to bash for the last word: ``type,value`` each."""
    told = {"COMP_WORDS": "\n".join(("autotag", *words)), "COMP_CWORD": str(len(words))}
    done = autotag(env={**os.environ, **told, "_AUTOTAG_COMPLETE": "bash_complete"})
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["make"], ["plain,make-corpus"]),
        (["tag", "--eng"], ["plain,--engine"]),
        (["tag", "--engine", "op"], ["plain,openvino"]),
        (["tag", "--model", "musicnn-m"], ["dir,musicnn-m", "plain,musicnn-mtt", "plain,musicnn-msd"]),
        (["tag", "so"], ["file,so"]),
        (["pretrained", "vgg-mt"], ["plain,vgg-mtt"]),
        (["import", "sample_cnn_20"], ["plain,sample_cnn_2017"]),
        (["dataset", "jam"], ["plain,jamendo"]),
        (["dataset", "jamendo", "fol"], ["dir,fol"]),
        (["run", "pipeline/configs/de"], ["file,pipeline/configs/de"]),
        (["kubeflow", "subm"], ["plain,submit"]),
        (["doctor", "--for", "kub"], ["plain,kubeflow"]),
        (["download-mtat", "zzz"], []),
    ],
)
def test_names_files_and_options_are_completed(words: list[str], wanted: list[str]) -> None:
    assert completions(*words) == wanted


def test_completing_a_command_imports_no_other() -> None:
    code = (
        "import os, sys\nfrom pipeline.cli import main\n"
        "os.environ.update(_AUTOTAG_COMPLETE='bash_complete', COMP_WORDS='autotag ', COMP_CWORD='1')\n"
        "sys.argv = ['autotag']\n"
        "try:\n    main()\nfinally:\n"
        "    print([name for name in sys.modules if name.startswith('pipeline.commands.') or name == 'numpy'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "plain,tag\n" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_command_whose_packages_are_missing_is_completed_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "usearch.py").write_text("raise ImportError('hidden')")
    (tmp_path / "numpy.py").write_text("raise ImportError('hidden')")
    told = {"COMP_WORDS": "autotag tag --e", "COMP_CWORD": "2", "_AUTOTAG_COMPLETE": "bash_complete"}
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = autotag(env={**os.environ, **told, "PYTHONPATH": path})
    assert not done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_of_each_shell_asks_the_program(shell: str) -> None:
    script = autotag("completion", shell).stdout
    assert f"_AUTOTAG_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_tab_completes_in_bash(tmp_path: Path) -> None:
    """In a terminal, as a person has it: a model's name, and a file with a space in its name."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    (tmp_path / "a song.mp3").touch()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.environ.update(PATH=PATH, PS1="ready>", TERM="dumb", INPUTRC="/dev/null")
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        read_until(terminal, "ready>")
        os.write(terminal, b'eval "$(autotag completion bash)"; echo lo""aded\n')
        read_until(terminal, "loaded")
        os.write(terminal, b"autotag tag --model vgg-mt\t")
        read_until(terminal, "vgg-mtt")
        os.write(terminal, b"a\t")
        read_until(terminal, "song.mp3")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def read_until(terminal: int, wanted: str, seconds: float = 60) -> None:
    said, end = "", time.monotonic() + seconds
    while wanted not in said:
        assert time.monotonic() < end, said
        if select.select([terminal], [], [], 1)[0]:
            said += os.read(terminal, 4096).decode(errors="replace")
