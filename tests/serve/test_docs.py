"""What docs/serve.md prints works: requests are sent as they stand there, and commands are ones that there are."""

import re
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from clipmill.serve.here import address_of, listen
from clipmill.serve.limits import Limits
from clipmill.serve.service import Service
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from clipmill_jobs.__main__ import main
from serve.conftest import picture

PAGE = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
REQUESTS = re.findall(r"^```sh\n(curl .*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    (clipmill .*?)(?:\s+#.*)?$", PAGE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    opened: socket.socket = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(service, Access()), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield address_of(opened)
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_a_request_of_the_page_is_answered(number: int, address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(picture(3))
    command = REQUESTS[number].replace("http://localhost:8000/", address).replace("size = ", "label = ")
    command = command.replace("curl ", "curl --fail-with-body ", 1)
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"results":' in done.stdout


def test_commands_of_the_page_are_understood() -> None:
    assert len(REQUESTS) == 3
    assert len(COMMANDS) == 4
    for line in COMMANDS:
        _, name, *arguments = shlex.split(line)
        command = main.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        command.make_context(name, arguments)


def test_bounds_and_paths_of_the_page_are_those_of_the_service(service: Service) -> None:
    limits = Limits()
    assert (limits.body_bytes, limits.picture_pixels) == (16_000_000, 50_000_000)
    assert "16 MB; a picture 50 million pixels" in PAGE
    assert f"{limits.text_letters:,} letters; {limits.parts} parts; {limits.vectors:,} vectors" in PAGE
    assert f"{limits.where_letters:,} letters, {limits.where_seconds:.0f} seconds" in PAGE
    assert f"`--k-max`, {limits.k:,}" in PAGE
    assert f"{limits.waiting} more wait" in PAGE
    described = make_app(service, Access()).openapi()["paths"]
    for path in re.findall(r"(/v1/[\w/{}]+)", PAGE):
        assert path in described or path.rstrip("`?") in described, path
