"""HAProxy stands before the replicas of a cluster that the command starts, with nothing open to others that need not be."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from clipmill.core.settings import ClusterSettings
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


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "10.0.0.1:6379"])
def test_a_cluster_that_runs_already_has_its_own_front(address: str) -> None:
    environment: dict[str, str] = {}
    front.choose_front(ClusterSettings(address=address), environment)
    assert environment == {}


def test_what_the_environment_says_is_kept() -> None:
    environment = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}
    front.choose_front(ClusterSettings(), environment)
    assert environment == {"RAY_SERVE_ENABLE_HA_PROXY": "0"}


def test_haproxy_comes_with_ray() -> None:
    """Where it does not, Ray's own proxy is used, and the measured speed is another."""
    found = front.bundled_haproxy()
    assert found is not None
    assert os.access(found, os.X_OK)
