"""One bit, anywhere in any file but the manifest, and the dataset is not whole; the file is named."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmill.datasets.manifests import MANIFEST
from wholesome import flip_bit


@pytest.mark.parametrize(("name", "flips"), [("embeddings", 40), ("index", 40)])
def test_a_flipped_bit_is_found_wherever_it_is(
    name: str, flips: int, request: pytest.FixtureRequest, check: Callable
) -> None:
    folder: Path = request.getfixturevalue(name)
    assert check(folder).whole
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    chooser = random.Random(3)
    for number in range(flips):
        file = files[number % len(files)]
        bit = chooser.randrange(file.stat().st_size * 8)
        flip_bit(file, bit)
        findings = check(folder)
        flip_bit(file, bit)
        assert not findings.whole, f"bit {bit} of {file.name}"
        assert any(file.name in fault for fault in findings.faults), findings.faults
    assert check(folder).whole
