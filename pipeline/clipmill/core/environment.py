"""What a run was made with, for manifests: the versions and the machine. And where it keeps what it copied here."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

DEFAULT_CACHE = Path("~/.cache/clipmill")
"""Local copies of what lies on S3."""

_PACKAGES = (
    "clipmill",
    "ray",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "sentence-transformers",
    "vllm",
    "pyarrow",
    "faiss-gpu",
    "faiss-cpu",
    "numpy",
    "pillow",
)


def software() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """The machine this process runs on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def is_running(process: int) -> bool:
    """Whether a process of this system has this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
