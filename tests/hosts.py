"""Several hosts on one machine: network namespaces with addresses of their own, on a bridge; a host can be cut off."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """A network namespace. ``cable`` is its end on the bridge."""

    namespace: str
    address: str
    cable: str

    def command(self, *line: str) -> list[str]:
        """A command line that runs on this host."""
        return ["ip", "netns", "exec", self.namespace, *line]

    def cut_off(self) -> None:
        """Its cable is pulled: processes go on, and reach nobody."""
        _ip("link", "set", self.cable, "down")

    def connect(self) -> None:
        _ip("link", "set", self.cable, "up")


def hosts_allowed() -> bool:
    """Whether this process may make hosts."""
    if os.geteuid() != 0:
        return False
    name = f"try{uuid.uuid4().hex[:6]}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "exec", name, "ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        with suppress(OSError, subprocess.CalledProcessError):
            _ip("netns", "del", name)
    return True


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts that reach each other and nothing else; they are gone at the end, with what still runs there."""
    network = uuid.uuid4().hex[:6]
    bridge = f"br{network}"
    made = [
        Host(f"host{network}{number}", f"10.213.77.{number}", f"c{network}{number}") for number in range(1, count + 1)
    ]
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
        for host in made:
            _ip("netns", "add", host.namespace)
            _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("link", "set", host.cable, "master", bridge, "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.namespace, "link", "set", device, "up")
            _ip("-n", host.namespace, "route", "add", "default", "via", host.address)
        yield made
    finally:
        for host in made:
            _end_what_runs_on(host)
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", host.namespace)
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", bridge)


def _end_what_runs_on(host: Host) -> None:
    listed = subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True, check=False).stdout
    for process in listed.split():
        with suppress(ProcessLookupError):
            os.kill(int(process), 9)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True, timeout=30)
