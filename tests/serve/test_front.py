"""HAProxy stands before the replicas of a cluster that the command starts, with nothing open to others that need not be."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from clipmill.core.errors import UserError
from clipmill.core.settings import ClusterSettings, ServeSettings
from clipmill.serve.on_ray import front

CONFIGURATION = """defaults
    option abortonclose
    errorfile 502 /x/500.http
    errorfile 503 /x/500.http
    errorfile 504 /x/500.http
frontend prometheus
    bind :9101
frontend http_frontend
    bind 0.0.0.0:8000
listen stats
  bind *:8404
backend clipmill
    server one 192.0.2.1:30000 check
"""


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment as it is left, with something in the place of HAProxy that prints what it was given."""
    printing = tmp_path / "printing haproxy"
    printing.write_text('#!/bin/sh\necho "$@"\ncat "$3"\n')
    printing.chmod(0o700)
    monkeypatch.setattr(front, "bundled_haproxy", lambda: printing)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    environment: dict[str, str] = {}
    front.choose_front(ClusterSettings(), environment)
    return environment


def test_haproxy_reads_what_ray_wrote_put_right(chosen: dict[str, str], tmp_path: Path) -> None:
    assert chosen["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    written = tmp_path / "haproxy.cfg"
    written.write_text(CONFIGURATION)
    start = [chosen["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(written), "-sf", "7"]
    told, *lines = subprocess.run(start, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == f"-db -f {written} -sf 7"
    assert [lines.pop(2), lines.pop(2)] == ["    option http-buffer-request", "    option http-server-close"]
    refusal = lines[2].rsplit(" ", 1)[1]
    others = [line.replace("/x/500.http", refusal) for line in CONFIGURATION.splitlines()]
    assert lines == [
        line.replace("bind :9101", "bind 127.0.0.1:9101").replace("bind *:8404", "bind 127.0.0.1:8404")
        for line in others
    ]
    head, _, body = Path(refusal).read_bytes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Retry-After: 5" in head
    assert b"application/problem+json" in head


def test_its_files_are_of_this_user_alone_and_its_sockets_have_short_paths(chosen: dict[str, str]) -> None:
    folder = Path(chosen["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("SOCKET_PATH", "METRICS_SOCKET_PATH"):
        assert len(chosen[f"RAY_SERVE_HAPROXY_{name}"]) + len("/") + 56 <= 97
    assert len({chosen[f"RAY_SERVE_HAPROXY_{name}_PORT"] for name in ("METRICS", "STATS")}) == 2


def ports_of(environment: dict[str, str]) -> set[int]:
    first, last = (int(environment[f"RAY_SERVE_DIRECT_INGRESS_{end}_HTTP_PORT"]) for end in ("MIN", "MAX"))
    names = ("FALLBACK_PROXY_HTTP", "HAPROXY_METRICS", "HAPROXY_STATS")
    others = {int(environment[f"RAY_SERVE_{name}_PORT"]) for name in names}
    assert len(others) == 3
    assert last - first > 400
    assert not others & set(range(first, last + 1))
    return others | set(range(first, last + 1))


CHOOSE = """
import json
from clipmill.core.settings import ClusterSettings
from clipmill.serve.on_ray import front
environment = {}
front.choose_front(ClusterSettings(), environment)
print(json.dumps(environment), flush=True)
input()
"""


def test_services_of_a_machine_share_no_port(chosen: dict[str, str]) -> None:
    """Ray Serve lets clusters share ports: what one service's replicas do not answer, another's would."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": variables}
    with subprocess.Popen([sys.executable, "-c", CHOOSE], **pipes) as other:
        assert other.stdout is not None
        theirs = ports_of(json.loads(other.stdout.readline()))
        other.communicate("\n")
    assert not theirs & ports_of(chosen)


RUNNING = """
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend one
    bind 127.0.0.1:{port}
"""


def test_nothing_is_left_of_a_service_that_is_killed(tmp_path: Path) -> None:
    """Of HAProxy neither, which Ray leaves behind with its port when the process that started Ray is gone."""
    if front.bundled_haproxy() is None:
        pytest.skip("HAProxy comes with Ray on Linux alone")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": variables}
    with subprocess.Popen([sys.executable, "-c", CHOOSE], **pipes) as service:
        assert service.stdout is not None
        environment = json.loads(service.stdout.readline())
        written = tmp_path / "haproxy.cfg"
        written.write_text(RUNNING.format(port=environment["RAY_SERVE_HAPROXY_STATS_PORT"]))
        folder = Path(environment["RAY_SERVE_HAPROXY_BINARY_PATH"]).parent
        with subprocess.Popen([folder / "haproxy", "-db", "-f", str(written)], stderr=subprocess.DEVNULL) as haproxy:
            wait_for(
                lambda: "haproxy" in Path(f"/proc/{haproxy.pid}/comm").read_text() and any(folder.glob("started/*"))
            )
            service.kill()
            assert haproxy.wait(timeout=60) == -signal.SIGKILL
        wait_for(lambda: not folder.exists())


def wait_for(condition: Callable[[], bool], otherwise: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            otherwise()
            pytest.fail("waited for a minute")
        time.sleep(0.02)


def test_ports_that_another_program_has_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    first: dict[str, str] = {}
    front.choose_front(ClusterSettings(), first)
    ports = sorted(ports_of(first))
    following = ports[0] + 500
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            taken.bind(("127.0.0.1", following))
        second: dict[str, str] = {}
        front.choose_front(ClusterSettings(), second)
    assert following not in ports_of(second)


def test_rays_own_proxy_is_used_where_all_ports_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(front, "_PORTS", range(0))
    environment: dict[str, str] = {}
    front.choose_front(ClusterSettings(), environment)
    assert environment == {"RAY_SERVE_ENABLE_HA_PROXY": "0", "FORWARDED_ALLOW_IPS": ""}


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "10.0.0.1:6379"])
def test_a_cluster_that_runs_already_has_its_own_front(address: str) -> None:
    environment: dict[str, str] = {}
    front.choose_front(ClusterSettings(address=address), environment)
    assert environment == {}


def test_what_the_environment_says_is_kept() -> None:
    environment = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}
    front.choose_front(ClusterSettings(), environment)
    assert environment == {"RAY_SERVE_ENABLE_HA_PROXY": "0", "FORWARDED_ALLOW_IPS": ""}


@pytest.mark.parametrize("believed", ["*", "10.0.0.0/8", "127.0.0.1,192.0.2.9"])
def test_without_tokens_nobody_is_believed_to_be_this_machine(believed: str, tmp_path: Path) -> None:
    """uvicorn takes the address of who asks from a header of whom it is told to believe."""
    open_to_all = ServeSettings(places=("x",))
    with pytest.raises(UserError, match="FORWARDED_ALLOW_IPS lets"):
        front.refuse_forwarded(open_to_all, {"FORWARDED_ALLOW_IPS": believed})
    for safe in ({}, {"FORWARDED_ALLOW_IPS": ""}, {"FORWARDED_ALLOW_IPS": "127.0.0.1, ::1"}):
        front.refuse_forwarded(open_to_all, safe)
    with_tokens = open_to_all.model_copy(update={"token_file": tmp_path / "tokens"})
    front.refuse_forwarded(with_tokens, {"FORWARDED_ALLOW_IPS": believed})


def test_a_service_that_starts_its_cluster_believes_no_header(chosen: dict[str, str]) -> None:
    assert chosen["FORWARDED_ALLOW_IPS"] == ""


def test_haproxy_comes_with_ray() -> None:
    """Where it does not, Ray's own proxy is used, and the measured speed is another."""
    found = front.bundled_haproxy()
    assert found is not None
    assert os.access(found, os.X_OK)
