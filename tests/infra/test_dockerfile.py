"""The Dockerfile, as far as it can be checked without building: what it pins, whom it runs as, what goes into it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.manifests import INFRA, REPOSITORY

FOLDER = INFRA / "docker"


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its arguments, continued lines joined."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, rest) for word, rest in found]


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Of each stage: what it is made from, and its instructions."""
    made: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = re.fullmatch(r"(\S+) (AS) (\S+)", rest).groups()  # type: ignore[union-attr]
            made[name] = (base, [])
        elif name:
            made[name][1].append((word, rest))
    return made


def test_there_are_targets_for_cuda_and_cpus_with_and_without_weights() -> None:
    assert set(stages()) >= {"cuda", "cpu", "cuda-weights", "cpu-weights"}
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"--target (\S+)", page))
    assert targets
    assert targets <= set(stages())


def test_the_base_image_is_pinned_by_digest_and_has_the_locked_python() -> None:
    (base,) = [rest for word, rest in instructions() if word == "ARG" and rest.startswith("PYTHON=")]
    assert re.fullmatch(r"PYTHON=python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert "Python 3.11" in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()[0]
    outside = {base for base, _ in stages().values()} - set(stages())
    assert outside == {"${PYTHON}"}


@pytest.mark.parametrize("target", ["cuda", "cpu", "cuda-weights", "cpu-weights"])
def test_images_run_as_a_user_without_rights(target: str) -> None:
    base, found = stages()[target]
    users = [rest for word, rest in found if word == "USER"]
    if base in ("cuda", "cpu"):
        assert users == [], "the user is that of the stage it is made from"
    else:
        assert users == ["1000:1000"]
        assert [word for word, _ in found].index("USER") > max(n for n, (word, _) in enumerate(found) if word == "RUN")


def test_everything_that_is_installed_is_locked() -> None:
    runs = [rest for word, rest in instructions() if word == "RUN" and "pip " in rest]
    assert len(runs) == 8
    for run in runs:
        assert "--no-deps" in run or re.search(r"--constraint \S*requirements\.lock", run), run


def test_what_changes_often_comes_last() -> None:
    for target in ("cuda", "cpu"):
        runs = [rest for word, rest in stages()[target][1] if word == "RUN"]
        assert [run.split()[-1] for run in runs] == ["torchvision", "/pinned/requirements.txt", "/wheels/*.whl"]
    _, found = stages()["requirements"]
    assert [rest for word, rest in found if word == "COPY"] == ["pyproject.toml requirements.lock /"]


def test_dependencies_are_read_from_the_project(tmp_path: Path) -> None:
    tomllib = pytest.importorskip("tomllib", reason="the image has a Python that has it")
    (run,) = [rest for word, rest in stages()["requirements"][1] if word == "RUN"]
    here = run.replace("/pyproject.toml", str(REPOSITORY / "pyproject.toml"))
    here = here.replace("python -c", f"{sys.executable} -c").replace("/requirements.txt", str(tmp_path / "out.txt"))
    subprocess.run(here, shell=True, check=True)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    assert (tmp_path / "out.txt").read_text().splitlines() == wanted


def test_nothing_but_the_wheels_sources_is_copied_and_let_in() -> None:
    copied = {
        word
        for _, found in stages().values()
        for kind, rest in found
        if kind == "COPY" and "--from=" not in rest
        for word in rest.split()[:-1]
    }
    let_in = {
        line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert copied == let_in
    assert "*" in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    for name in let_in:
        assert (REPOSITORY / name).exists(), name


def test_infra_holds_no_credentials_and_no_address_of_a_package_index() -> None:
    secret = re.compile(
        r"AKIA[0-9A-Z]{16}|-----BEGIN|aws_secret_access_key\s*[=:]\s*\S|(?:auth_token|password)\s*[=:]\s*['\"]?[0-9a-f]{16}",
        re.I,
    )
    index = re.compile(r"pypi\.|files\.pythonhosted|download\.pytorch|conda\.|/simple/?\b", re.I)
    for file in sorted(path for path in INFRA.rglob("*") if path.is_file()):
        text = file.read_text(encoding="utf-8")
        assert not secret.search(text), file
        assert not index.search(text), file
