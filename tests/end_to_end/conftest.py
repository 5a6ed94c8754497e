"""The real command line on real Ray, in processes of its own, as a user runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).parents[2] / "../shared/data"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def clipmill() -> Callable[..., Ended]:
    """Runs one `clipmill` command to its end."""

    def run(*arguments: object, cwd: Path | None = None, **environment: str) -> Ended:
        command = [sys.executable, "-m", "clipmill_jobs", *(str(argument) for argument in arguments)]
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs and vectors; tests that need them are skipped where they are not."""
    if not SHARED.exists():
        pytest.skip("the real data is not at hand")
    return SHARED
