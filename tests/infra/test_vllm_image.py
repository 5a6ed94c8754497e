"""The image with vLLM, as far as it can be checked without building: what it pins agrees with what wants it."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.manifests import INFRA, REPOSITORY

FOLDER = INFRA / "vllm"


def locked() -> dict[str, str]:
    lines = (FOLDER / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def instructions(file: Path) -> list[str]:
    text = "\n".join(line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]


def test_versions_are_those_that_the_extras_and_ray_itself_ask_for() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras, versions = project["optional-dependencies"], locked()
    of_ray = [line for line in requires("ray") or () if 'extra == "llm"' in line]
    assert any(line.startswith("vllm") for line in of_ray)
    there = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11", "extra": "llm"}
    for one in map(Requirement, [*project["dependencies"], *extras["vllm"], *extras["serve"], *of_ray]):
        if one.marker is None or one.marker.evaluate(there):
            assert one.specifier.contains(versions[canonicalize_name(one.name)]), one


def test_the_lock_names_each_package_once_in_order_and_none_of_another_build() -> None:
    lines = (FOLDER / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert names == sorted(set(names))
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9a-z.!]+", line) for line in lines if not line.startswith("#"))
    assert "clipmill" not in names
    assert "Python 3.11" in lines[0]


def test_the_image_has_the_base_of_the_other_one_a_user_without_rights_and_nothing_unlocked() -> None:
    found, other = instructions(FOLDER / "Dockerfile"), instructions(INFRA / "docker" / "Dockerfile")
    assert [line for line in found if line.startswith("ARG PYTHON")] == [
        line for line in other if line.startswith("ARG PYTHON")
    ]
    assert found[-2:] == ["USER 1000:1000", 'CMD ["clipmill", "--help"]']
    installing = [line for line in found if line.startswith("RUN") and "pip " in line]
    assert installing
    for line in installing:
        assert "--no-deps" in line or re.search(r"--constraint \S*requirements\.lock", line), line
    copied = {word for line in found if line.startswith("COPY ") for word in line.split()[1:-1]}
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((REPOSITORY / name).exists() for name in copied)
