"""Completion in bash, zsh and fish; no colours where nobody sees them or NO_COLOR is set; one sentence on Windows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clipmill_jobs.__main__ import main

PROGRAM = [sys.executable, "-c", "from clipmill_jobs.__main__ import main; main(prog_name='clipmill')"]
SHELLS = ("bash", "zsh", "fish")


def completed(shell: str, words: str, current: str) -> list[str]:
    """What the shell is told when ``current`` is completed behind ``words``."""
    line = f"{words} {current}"
    environment = {**os.environ, "_CLIPMILL_COMPLETE": f"{shell}_complete", "COMP_WORDS": line}
    environment["COMP_CWORD"] = current if shell == "fish" else str(len(words.split()))
    done = subprocess.run(PROGRAM, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return [one for one in done.stdout.replace(",", "\n").replace("\t", "\n").splitlines() if one]


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_and_choices_are_completed(shell: str) -> None:
    assert "run" in completed(shell, "clipmill", "ru")
    assert "--model" in completed(shell, "clipmill run", "--mo")
    assert {"auto", "fp32", "bf16", "int8"} <= set(completed(shell, "clipmill embed --precision", ""))
    assert "clip-retrieval" in completed(shell, "clipmill import", "clip")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "words", ["clipmill run", "clipmill embed --input", "clipmill search --index", "clipmill explore"]
)
def test_files_are_left_to_the_shell(shell: str, words: str) -> None:
    assert "file" in completed(shell, words, "pho")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_takes_the_script(shell: str, tmp_path: Path) -> None:
    environment = {**os.environ, "_CLIPMILL_COMPLETE": f"{shell}_source"}
    script = subprocess.run(PROGRAM, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "clipmill" in script
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script)
    checked = subprocess.run([found, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_no_colour_is_a_wish_that_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    with main.make_context("clipmill", ["doctor"]) as context:
        assert context.color is None
    monkeypatch.setenv("NO_COLOR", "1")
    with main.make_context("clipmill", ["doctor"]) as context:
        assert context.color is False
        assert click.globals.resolve_color_default() is False


def test_off_a_terminal_nothing_is_coloured() -> None:
    for line in (["--help"], ["models", "--help"], ["rnu"]):
        done = subprocess.run([*PROGRAM, *line], capture_output=True, timeout=60, check=False)
        assert b"\x1b" not in done.stdout + done.stderr


def test_windows_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 2
    assert done.output.rstrip().endswith("type: wsl --install")
