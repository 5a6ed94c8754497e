"""Rates follow from what a run took, with start-up told apart, and from published operations where there was none."""

import pytest

from clipmill.core.errors import UserError
from clipmill.estimate.machine import Machine
from clipmill.estimate.rates import CORE_GFLOPS, GPU_SHARE, calibrated, published
from clipmill.estimate.workload import ModelCost, Workload
from estimate.manifests import manifest

MODEL = ModelCost("ViT-Z-1", 16, (32, 32), None, None, "")
"""Of so small pictures 1,024 rows are a unit."""
TWO_CORES = Machine("2 cores", 2, 0)
STAGES = {"encode_images": 8.0, "encode_captions": 4.0, "read": 0.5, "decode": 1.5, "write": 0.0, "cpu": 10.0}


def work(rows: int, captions: float = 2.0) -> Workload:
    return Workload(rows, captions, 50_000, 500 * 375)


def test_start_up_is_what_the_stages_do_not_account_for() -> None:
    rates = calibrated(manifest(10_240, 26.0, STAGES, captions=20_480), MODEL, work(4000), TWO_CORES).likely
    # 10 CPU seconds of two cores are 5 s; that the encoders took 6 by the clock is what they shared the cores with
    assert rates.start_up == pytest.approx(21.0)
    assert rates.wall_seconds(10_240, TWO_CORES) == pytest.approx(26.0)
    assert rates.wall_seconds(40_960, TWO_CORES) == pytest.approx(21.0 + 4 * 5.0)


def test_an_encoder_of_several_threads_counts_by_the_clock() -> None:
    rates = calibrated(manifest(10_240, 26.0, STAGES, captions=20_480, encoders=1), MODEL, work(4000), TWO_CORES).likely
    assert rates.start_up == pytest.approx(26.0 - 12.0)
    assert rates.wall_seconds(40_960, TWO_CORES) == pytest.approx(14.0 + 4 * 12.0)


def test_twice_the_cores_halve_the_steady_state_and_leave_start_up() -> None:
    four = Machine("4 cores", 4, 0)
    rates = calibrated(manifest(10_240, 26.0, STAGES, captions=20_480), MODEL, work(4000), four).likely
    assert rates.wall_seconds(40_960, four) == pytest.approx(21.0 + 2 * 5.0)


def test_captions_scale_their_own_share_of_encoding() -> None:
    rates = calibrated(
        manifest(10_240, 26.0, STAGES, captions=20_480), MODEL, work(1000, captions=5.0), TWO_CORES
    ).likely
    assert rates.wall_seconds(10_240, TWO_CORES) == pytest.approx(21.0 + 5.0 * (8.0 + 4.0 * 2.5) / 12.0)


def test_gpus_encode_and_cores_feed_them() -> None:
    stages = {"encode_images": 40.0, "read": 20.0, "decode": 60.0, "cpu": 500.0}
    earlier = manifest(10_000, 30.0, stages, encoded_with="cuda bf16 batch 256", cpus=16.0, gpus=2.0)
    enough = Machine("m", 16, 2, "L4")
    rates = calibrated(earlier, MODEL, work(10_000, 0.0), enough).likely
    assert rates.start_up == pytest.approx(10.0)  # 40 s of two GPUs; 80 s of 16 cores are less
    assert rates.cores_for_a_gpu == pytest.approx(80.0 / 40.0)
    few = Machine("m", 2, 2, "L4")
    assert rates.wall_seconds(10_000, few) == pytest.approx(10.0 + 80.0 / 2)


def test_a_run_that_decoded_on_its_gpus_does_not_tell_what_cores_need() -> None:
    stages = {"encode_images": 40.0, "decode": 60.0}
    earlier = manifest(10_000, 30.0, stages, encoded_with="cuda bf16 batch 256, decoding too on NVIDIA L4", gpus=2.0)
    with pytest.raises(UserError, match="--decode cpu"):
        calibrated(earlier, MODEL, work(10_000, 0.0), Machine("m", 16, 2, "L4"))


def test_two_encoders_that_share_a_gpu_are_one_gpu() -> None:
    stages = {"encode_images": 80.0}
    earlier = manifest(10_000, 50.0, stages, encoded_with="cuda bf16 batch 256", cpus=16.0, gpus=1.0, encoders=2)
    machine = Machine("m", 16, 1, "L4")
    likely = calibrated(earlier, MODEL, work(10_000, 0.0), machine).likely
    assert likely.start_up == pytest.approx(10.0)
    assert likely.wall_seconds(20_000, machine) == pytest.approx(10.0 + 2 * 40.0)


def test_published_operations_over_a_share_of_the_peak() -> None:
    model = ModelCost("m", 512, (224, 224), 100.0, 10.0, "published")
    machine = Machine("m", 1000, 4, "A100")
    rates = published(model, work(1, captions=5.0), machine)
    for case, share in zip((rates.worst, rates.likely, rates.best), GPU_SHARE, strict=True):
        assert case.wall_seconds(10**6, machine) - case.start_up == pytest.approx(1e6 * 150e9 / (312e12 * share) / 4)
    cores = Machine("8", 8, 0)
    likely = published(model, Workload(1, 0.0, 0, 80_000_000), cores).likely
    assert likely.wall_seconds(10**6, cores) - likely.start_up == pytest.approx(1e6 * (100 / CORE_GFLOPS[1] + 1.0) / 8)


def test_one_unit_keeps_one_encoder_busy() -> None:
    few = calibrated(manifest(60, 26.0, STAGES, captions=120), MODEL, work(4000), TWO_CORES).likely
    assert few.start_up == pytest.approx(26.0 - 10.0)
    assert few.wall_seconds(60, TWO_CORES) == pytest.approx(26.0)
    assert few.wall_seconds(6000, TWO_CORES) == pytest.approx(16.0 + 100 * 10.0 / 2)


@pytest.mark.parametrize(
    ("earlier", "machine", "said"),
    [
        (manifest(10, 1.0, {}, rows_encoded=0), TWO_CORES, "encoded nothing"),
        (manifest(10, 1.0, {}), Machine("g", 4, 1, "L4"), "encoded on cores"),
        (manifest(10, 1.0, {}, encoded_with="cuda bf16 batch 8"), TWO_CORES, "encoded on GPUs"),
    ],
)
def test_a_run_that_says_nothing_of_the_machine_is_refused(earlier: object, machine: Machine, said: str) -> None:
    with pytest.raises(UserError, match=said):
        calibrated(earlier, MODEL, work(10), machine)  # type: ignore[arg-type]


def test_what_is_not_known_is_asked_for() -> None:
    with pytest.raises(UserError, match="--calibrate"):
        published(ModelCost("m", 512, (224, 224), None, None, ""), work(1), TWO_CORES)
    with pytest.raises(UserError, match="which GPUs"):
        published(ModelCost("m", 512, (224, 224), 1.0, 1.0, ""), work(1), Machine("m", 4, 1))
