"""FAISS's OpenBLAS is told which kernels an Intel processor runs."""

from pathlib import Path

import pytest

from clipmill.core.processor import name_kernels

AVX512 = "avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("vendor", "flags", "kernels"),
    [
        ("GenuineIntel", f"fpu avx2 fma {AVX512} amx_tile", "SkylakeX"),
        ("GenuineIntel", "fpu avx2 fma avx_vnni", "Haswell"),
        ("GenuineIntel", "fpu sse3", None),
        ("AuthenticAMD", f"fpu avx2 fma {AVX512}", None),
    ],
)
def test_kernels_follow_from_the_instructions(tmp_path: Path, vendor: str, flags: str, kernels: str | None) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n")
    environment: dict[str, str] = {}
    name_kernels(tmp_path / "cpuinfo", environment)
    assert environment.get("OPENBLAS_CORETYPE") == kernels


def test_a_name_that_is_given_stays_and_other_systems_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("vendor_id\t: GenuineIntel\nflags\t\t: avx2 fma\n")
    environment = {"OPENBLAS_CORETYPE": "Zen"}
    name_kernels(tmp_path / "cpuinfo", environment)
    assert environment == {"OPENBLAS_CORETYPE": "Zen"}
    empty: dict[str, str] = {}
    name_kernels(tmp_path / "absent", empty)
    assert empty == {}
