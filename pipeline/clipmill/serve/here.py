"""The service in this process: uvicorn, and no Ray."""

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from clipmill.core.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

_DRAIN_SECONDS = 20
"""Requests under way when the service is told to stop have so long to be answered."""
_BACKLOG = 2048
_IDLE_SECONDS = 75
"""A connection that asks nothing for so long is closed: longer than what proxies keep theirs."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free. Raises UserError where that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host.strip("[]"), port))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        reason = error.strerror or str(error)
        raise UserError(f"--port {port} of {host} cannot be listened at: {reason}; give another --port") from None
    return opened


def address_of(opened: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = opened.getsockname()[:2]
    return f"http://{'localhost' if host in ('127.0.0.1', '::1') else host}:{port}/"


def run_here(app: "FastAPI", opened: socket.socket) -> None:
    """Answers until the process is told to stop (Ctrl-C, SIGTERM), then finishes what it has begun."""
    import uvicorn

    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        timeout_keep_alive=_IDLE_SECONDS,
        server_header=False,
        ws="none",
    )
    with suppress(KeyboardInterrupt):  # a service that was told to stop has ended well
        uvicorn.Server(settings).run(sockets=[opened])
