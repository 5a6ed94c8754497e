"""`clipmill explore` answers without Ray; it and `clipmill serve` refuse at once what they cannot do."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill.index.search.search import Index
from clipmill_jobs.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def index(
    clustered_embeddings: Callable, indexed: Callable[..., Index], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """An index of vectors without a model."""
    opened = indexed(clustered_embeddings(200, 50))
    return str(opened.table.paths[0].parent)


def asked(address: str, body: dict) -> dict:
    request = urllib.request.Request(
        f"{address}v1/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_explore_answers_without_ray_and_ends_well(index: str, end: signal.Signals) -> None:
    code = "import sys; from clipmill_jobs.__main__ import main\ntry: main()\nfinally: print('ray' in sys.modules, flush=True)"
    command = [sys.executable, "-c", code, "explore", index, "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert re.fullmatch(r"http://localhost:\d+/", line)
    assert asked(line, {"id": "image-3", "k": 2})["results"][0]["id"] == "image-3"
    process.send_signal(end)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert out.split() == ["False"], "Ray was imported"
    assert "Traceback" not in told


def test_the_browser_is_opened_unless_told_otherwise(index: str, tmp_path: Path) -> None:
    (tmp_path / "browser").write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    (tmp_path / "browser").chmod(0o755)
    environment = {**os.environ, "BROWSER": str(tmp_path / "browser")}
    command = [sys.executable, "-m", "clipmill_jobs", "explore", index, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    asked(line, {"id": "image-3"})
    process.terminate()
    process.communicate(timeout=60)
    assert (tmp_path / "opened").read_text().strip() == line


@pytest.mark.parametrize("name", ["explore", "serve"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "an index, or an output of `clipmill run`"),
        (["INDEX", "--port", "70000"], "--port: must be 65535 or less"),
        (["INDEX", "--k-max", "0"], "--k-max: must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(index: str, name: str, arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, [name, *(index if one == "INDEX" else one for one in arguments)])
    assert result.exit_code == 2
    assert told in result.output


def test_places_that_are_no_index_are_refused(index: str, tmp_path: Path) -> None:
    for arguments, told in (
        ([str(tmp_path / "absent")], "is not a finished index dataset"),
        ([index, index], "give them names"),
        ([index, "--log-queries", str(ROOT / "README.md")], "is no Parquet file"),
    ):
        result = CliRunner().invoke(main, ["explore", *arguments, "--no-browser", "--port", "0"])
        assert result.exit_code == 2, result.output
        assert told in result.output


@pytest.mark.parametrize("command", ["serve", "explore"])
def test_a_place_that_is_no_index_is_told_before_anything_is_started(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr("clipmill.serve.on_ray.run.run_on_ray", lambda *_: started.append("Ray"))
    monkeypatch.setattr("clipmill.serve.here.listen", lambda *_: started.append("a socket"))
    done = CliRunner().invoke(main, [command, str(tmp_path / "absent")])
    assert done.exit_code == 2
    assert "is not a finished index dataset" in done.output
    assert not started


def test_a_port_that_is_taken_is_told(index: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name in ("explore", "serve"):
            result = CliRunner().invoke(main, [name, index, "--port", str(taken.getsockname()[1])])
            assert result.exit_code == 2
            assert "give another --port" in result.output


def test_off_loopback_a_token_is_needed(index: str, tmp_path: Path) -> None:
    for more, told in (
        ([], "so a token is needed"),
        (["--token-file", str(tmp_path / "absent")], "cannot be read"),
    ):
        result = CliRunner().invoke(main, ["serve", index, "--host", "0.0.0.0", *more])
        assert result.exit_code == 2
        assert told in result.output


@pytest.mark.parametrize(("name", "absent"), [("explore", "fastapi"), ("serve", "fastapi"), ("explore", "uvicorn")])
def test_a_package_that_is_missing_is_told_with_what_to_type(
    index: str, monkeypatch: pytest.MonkeyPatch, name: str, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    for module in [one for one in sys.modules if one.startswith("clipmill.serve")]:
        monkeypatch.delitem(sys.modules, module)
    result = CliRunner().invoke(main, [name, index, "--port", "0"])
    assert result.exit_code == 2, result.output
    assert f"the service needs the package {absent}" in result.output
    assert "pip install 'clipmill[serve]'" in result.output
