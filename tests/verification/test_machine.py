"""Every finding about a machine says what was found, and what to do where it is not well."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill import storage
from clipmill.verification import machine
from clipmill.verification.machine import Check, check_machine
from clipmill_jobs.doctor import command


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def found(prefix: str | None = None) -> dict[str, Check]:
    return {check.name: check for check in check_machine(prefix)}


def test_every_part_is_looked_at_and_what_is_not_well_has_advice() -> None:
    checks = found()
    expected = {"python", "packages", "extras", "processor", "gpus", "memory", "working folder", "temporary files"}
    assert expected | {"cache", "cluster"} <= set(checks)
    for check in checks.values():
        assert check.found
        assert check.state == "ok" or check.advice, check.name
    import torch

    assert f"torch {torch.__version__.split('+')[0]}" in checks["packages"].found


def test_a_package_that_is_missing_is_told_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = machine.importlib.util.find_spec
    monkeypatch.setattr(
        machine.importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else plain(name, *rest)
    )
    check = found()["extras"]
    assert check.state == "note"
    assert "not installed: train" in check.found
    assert check.advice.endswith("pip install 'clipmill[train]'")


def test_little_memory_and_an_old_processor_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_memory_bytes", lambda: (8 << 30, 1 << 30))
    monkeypatch.setattr(machine, "_flags", lambda: frozenset(["sse4_2"]))
    checks = found()
    assert (checks["memory"].state, checks["memory"].found) == ("note", "8.0 GiB, 1.0 GiB free")
    assert "without AVX2" in checks["processor"].advice


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "127.0.0.1:1 of RAY_ADDRESS does not answer"),
        ("ray://127.0.0.1:1", "127.0.0.1:1 of RAY_ADDRESS does not answer"),
        ("nonsense", "RAY_ADDRESS=nonsense is no address"),
        ("host:port", "RAY_ADDRESS=host:port is no address"),
    ],
)
def test_a_cluster_that_does_not_answer_is_a_fault(address: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    check = found()["cluster"]
    assert check.state == "fault"
    assert told in check.found


def test_a_cluster_that_answers_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{listening.getsockname()[1]}")
        assert found()["cluster"].state == "ok"


def test_a_cache_limit_that_is_none_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMILL_CACHE_LIMIT", "much")
    assert found()["cache"].state == "fault"


@pytest.mark.parametrize("there", [True, False])
def test_a_place_is_tried_and_left_as_it_was(there: bool, tmp_path: Path) -> None:
    place = tmp_path / "out"
    if there:
        place.mkdir()
        (place / "mine").write_text("kept")
    checks = found(str(place))
    steps = ("list", "write", "write if nothing is there", "read", "delete")
    assert [checks[f"place: {step}"].state for step in steps] == ["ok"] * 5
    assert [path.name for path in place.iterdir()] == ["mine"] if there else not place.exists()


def test_a_store_that_forgets_its_conditions_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "write_if", lambda file, data, version: "1")
    check = found(str(tmp_path / "out"))["place: write if nothing is there"]
    assert check.state == "fault"
    assert "does not keep to conditions" in check.found


def test_the_command_ends_with_1_where_there_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner: Callable[..., object] = CliRunner().invoke
    well = runner(command, [str(tmp_path / "out"), "--json"])
    assert well.exit_code == 0  # type: ignore[attr-defined]
    document = json.loads(well.stdout)  # type: ignore[attr-defined]
    assert {one["state"] for one in document} <= {"ok", "note"}
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    ill = runner(command, [])
    assert ill.exit_code == 1  # type: ignore[attr-defined]
    assert "FAULT cluster: 127.0.0.1:1 of RAY_ADDRESS does not answer" in ill.stdout  # type: ignore[attr-defined]
