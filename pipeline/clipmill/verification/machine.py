"""What this machine has for the work, and what to do where it lacks something: one finding a line."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from clipmill import storage
from clipmill.core.environment import DEFAULT_CACHE, hardware, software
from clipmill.core.errors import ClipmillError
from clipmill.core.gpus import torch_and_driver
from clipmill.core.secrets import clean
from clipmill.core.values import size_text
from clipmill.storage import Location
from clipmill.storage.copies import LIMIT_VARIABLE, copies_in, limit

State = Literal["ok", "note", "fault"]

_GB = 10**9
_LEAST_MEMORY, _LEAST_DISK, _LEAST_SHARED = 4 * _GB, 5 * _GB, 2 * _GB
_EXTRAS = {
    "train": "peft",
    "transformers": "transformers",
    "sentence-transformers": "sentence_transformers",
    "lance": "lance",
    "audio": "soundfile",
    "video": "av",
    "serve": "fastapi",
    "mteb": "mteb",
}
"""By extra, a package that only it brings."""
_KERNELS = ("amx_tile", "avx512f", "avx2")
_CONNECTS = 5.0


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands, what was found, and where that is not well, what to do."""

    name: str
    state: State
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def check_machine(prefix: str | None = None) -> Iterator[Check]:
    """Everything, one after the other; reading, writing and deleting below ``prefix`` where one is given.

    Raises UserError for a prefix that is no place.
    """
    place = _tried(prefix) if prefix is not None else None
    yield _python()
    yield _packages()
    yield _extras()
    yield _processor()
    yield _gpus()
    yield _memory()
    yield from _disks()
    yield _cluster()
    if prefix is not None and place is not None:
        yield from _place(prefix, place)


def _python() -> Check:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.platform == "win32":
        return Check("python", "fault", found, "clipmill runs on Linux and macOS; on Windows use WSL")
    return Check("python", "ok", found)


def _packages() -> Check:
    versions = software()
    named = ("clipmill", "torch", "open_clip_torch", "ray", "pyarrow", "faiss-gpu", "faiss-cpu")
    return Check("packages", "ok", ", ".join(f"{name} {versions[name]}" for name in named if name in versions))


def _extras() -> Check:
    missing = [extra for extra, package in _EXTRAS.items() if importlib.util.find_spec(package) is None]
    there = [extra for extra in _EXTRAS if extra not in missing]
    found = f"{', '.join(there) or 'none'}; not installed: {', '.join(missing) or 'none'}"
    advice = f"where you need one of these: pip install 'clipmill[{missing[0]}]'" if missing else ""
    return Check("extras", "note" if missing else "ok", found, advice)


def _processor() -> Check:
    machine = hardware()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine["cores"]
    flags = _flags()
    kernels = [kernel for kernel in _KERNELS if kernel in flags]
    found = f"{machine['processor']}, {cores} of {machine['cores']} cores for this process"
    found += f", {', '.join(kernels)}" if kernels else ""
    if flags and "avx2" not in flags:
        return Check("processor", "note", found, "without AVX2 encoding and search are several times slower")
    return Check("processor", "ok", found)


def _flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(word for line in lines if line.startswith("flags") for word in line.split(":", 1)[1].split())


def _gpus() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check(
            "gpus",
            "note",
            f"none that torch can use ({torch_and_driver()})",
            "nothing where this machine has none; else install NVIDIA's driver that fits this CUDA, and its container toolkit "
            "in a container",
        )
    each = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    named = ", ".join(f"{one.name} with {one.total_memory / 2**30:.0f} GiB" for one in each)
    return Check("gpus", "ok", f"{named} ({torch_and_driver()})")


def _memory() -> Check:
    total, free = _memory_bytes()
    if total is None or free is None:
        return Check("memory", "note", "how much there is could not be read")
    found = f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free"
    if free < _LEAST_MEMORY:
        return Check(
            "memory", "note", found, "a run on Ray takes some 4 GiB: end what else is running, or use --cpus 1"
        )
    return Check("memory", "ok", found)


def _memory_bytes() -> tuple[int | None, int | None]:
    """All there is and what is free; where a container has a limit, its own."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    except OSError:
        return None, None
    total, free = values.get("MemTotal"), values.get("MemAvailable")
    try:
        most = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # "max": no limit
        return total, free
    return min(total or most, most), min(free or most, most - used)


def _disks() -> Iterator[Check]:
    places = {
        "working folder": (Path.cwd(), _LEAST_DISK, "outputs go here unless --output says otherwise"),
        "temporary files": (Path(tempfile.gettempdir()), _LEAST_DISK, "TMPDIR names another folder for them"),
    }
    for name, (place, least, advice) in places.items():
        free = shutil.disk_usage(place).free
        found = f"{place} has {free / _GB:,.1f} GB free"
        writable = os.access(place, os.W_OK)
        if not writable:
            yield Check(name, "fault", f"{place} cannot be written to", advice)
        else:
            yield Check(name, "ok" if free >= least else "note", found, "" if free >= least else advice)
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        small = size < _LEAST_SHARED
        advice = "Ray keeps objects there and falls back to the disk: docker run --shm-size=8g" if small else ""
        yield Check("shared memory", "note" if small else "ok", f"{shared} holds {size / _GB:,.1f} GB", advice)
    yield _cache()


def _cache() -> Check:
    copies = copies_in(DEFAULT_CACHE)
    size = sum(copy.bytes for copy in copies)
    try:
        most = limit()
    except ClipmillError as error:
        return Check("cache", "fault", str(error), f"set {LIMIT_VARIABLE} to a size such as 20GiB, or unset it")
    return Check(
        "cache", "ok", f"{len(copies):,} copies of {size / _GB:,.1f} GB in {DEFAULT_CACHE}, at most {size_text(most)}"
    )


def _cluster() -> Check:
    address = os.environ.get("RAY_ADDRESS", "")
    if not address or address in ("local", "auto"):
        return Check("cluster", "ok", "RAY_ADDRESS names none: a local one is started where one is needed")
    host, port = _host_and_port(address)
    if host is None or port is None:
        return Check(
            "cluster", "fault", f"RAY_ADDRESS={clean(address)} is no address", "HOST:6379, or ray://HOST:10001"
        )
    try:
        socket.create_connection((host, port), timeout=_CONNECTS).close()
    except OSError as error:
        advice = "is the cluster up, and may this machine reach it? unset RAY_ADDRESS to work here"
        return Check("cluster", "fault", f"{host}:{port} of RAY_ADDRESS does not answer ({error})", advice)
    return Check("cluster", "ok", f"{host}:{port} of RAY_ADDRESS answers")


def _host_and_port(address: str) -> tuple[str | None, int | None]:
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        return parts.hostname, parts.port
    except ValueError:
        return None, None


def _tried(prefix: str) -> Location:
    """A folder below the prefix that nobody has."""
    return storage.resolve_output(f"{prefix.rstrip('/')}/clipmill-doctor-{uuid.uuid4().hex}")


def _place(prefix: str, place: Location) -> Iterator[Check]:
    """Whether outputs can be made below a place: listed, written, written only where nothing is, read, deleted."""
    there = storage.exists(storage.resolve(prefix))
    steps: dict[str, Callable[[], object]] = {
        "list": lambda: storage.list_files(place),
        "write": lambda: storage.write_bytes(place / "plain", b"1"),
        "write if nothing is there": lambda: _only_once(place / "once"),
        "read": lambda: _same(storage.read_bytes(place / "plain"), b"1"),
        "delete": lambda: _removed(place, was_there=there),
    }
    for name, step in steps.items():
        try:
            step()
        except (ClipmillError, OSError) as error:
            advice = "give this user the right to list, get, put and delete there; a bucket has to be there already"
            yield Check(f"place: {name}", "fault", clean(str(error)), advice)
            if name != "list":
                return
        else:
            yield Check(f"place: {name}", "ok", prefix)


def _removed(place: Location, *, was_there: bool) -> None:
    storage.remove(place)
    if place.is_local and not was_there:
        with suppress(OSError):  # something else was put there meanwhile
            os.rmdir(os.path.dirname(place.path))


def _only_once(file: Location) -> None:
    """Raises OSError where a file can be written twice that was to be written once: leases would not hold."""
    if storage.write_if(file, b"1", None) is None or storage.write_if(file, b"2", None) is not None:
        raise OSError("the store does not keep to conditions (If-None-Match), which leases of outputs need")


def _same(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise OSError(f"{found!r} was read where {expected!r} was written")
