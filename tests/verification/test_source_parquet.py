"""Source Parquet that clipmill wrote is proved from its manifest, and its faults are found."""

import json
from pathlib import Path

import pytest

from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.scenes.dataset import write_scenes
from clipmill.verification.dataset import verify


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write_scenes(SampleSettings(output=str(tmp_path / "scenes"), rows=6, image_size=32), Silent())
    return tmp_path / "scenes"


def faults(place: Path, *, quick: bool = False) -> list[str]:
    return verify(str(place), quick=quick, reporter=Silent()).faults


def test_what_sample_wrote_is_whole(scenes: Path) -> None:
    findings = verify(str(scenes), quick=False, reporter=Silent())
    assert (findings.kind, findings.whole, findings.checked["rows"]) == ("source", True, 6)


def test_missing_cut_altered_and_foreign_files_are_faults(scenes: Path) -> None:
    part = scenes / "part-00000.parquet"
    data = part.read_bytes()
    part.write_bytes(data[:-1])
    assert any("cut short" in fault for fault in faults(scenes, quick=True))
    part.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    assert not faults(scenes, quick=True)
    assert any("altered" in fault for fault in faults(scenes))
    part.write_bytes(data)
    (scenes / "part-00001.parquet").write_bytes(data)
    assert any("does not belong" in fault for fault in faults(scenes, quick=True))
    (scenes / "part-00001.parquet").unlink()
    part.unlink()
    assert any("missing" in fault for fault in faults(scenes, quick=True))


def test_counts_that_do_not_add_up_are_a_fault(scenes: Path) -> None:
    manifest = json.loads((scenes / "manifest.json").read_text())
    (scenes / "manifest.json").write_text(json.dumps({**manifest, "rows": 7}))
    assert faults(scenes, quick=True) == ["the files of the manifest do not add up to its rows"]
