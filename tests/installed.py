"""Environments in which clipmill is installed and no checkout is to be seen."""

import sysconfig
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def packages_of(environment: Path) -> Path:
    """Where an environment has its packages."""
    base = {"base": str(environment), "platbase": str(environment)}
    return Path(sysconfig.get_path("purelib", vars=base))


def python_of(environment: Path, wheel: Path) -> Path:
    """A Python whose clipmill is the wheel; all that it needs comes from the environment of these tests."""
    venv.create(environment, with_pip=False)
    packages = packages_of(environment)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "tests_environment.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin" / "python"
