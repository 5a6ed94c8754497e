"""A simulation is the real plan with a clock: what it tells agrees with arithmetic by hand."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from clipmill.core.errors import UserError
from clipmill.estimate.machine import Machine
from clipmill.estimate.rates import Rates
from clipmill.estimate.workload import ModelCost, Workload
from clipmill.simulation.costs import Costs
from clipmill.simulation.simulate import Asked, simulate
from clipmill_jobs.__main__ import main

MODEL = ModelCost("ViT-B-32", 512, (224, 224), 8.8, 5.9, "by hand")
GPUS = Machine("two GPUs", 16, 2, "L4")


ROWS = 1_335_000
"""150 files of 20 units: a unit holds 445 rows, and a row group two units."""


def asked(rows: int = ROWS, nodes: int = 4, encode: float = 0.001, feed: float = 0.001) -> Asked:
    """Rows of 50 kB in files of 8,900, in row groups of 890."""
    return Asked(
        workload=Workload(rows, 1.0, 50_000, 500 * 375),
        model=MODEL,
        machine=GPUS,
        nodes=nodes,
        rates=Rates(True, encode, feed, feed, 0.0, (224, 224), "by hand"),
        rows_a_file=8_900,
        rows_a_group=890,
    )


def test_units_slices_and_encoders_are_those_of_the_planner() -> None:
    made = simulate(asked(), Costs())
    assert (made.files, made.units, made.encoders) == (150, 3_000, 8)
    assert (made.slices, made.at_once) == (1, 1)  # fewer units than a slice has at least
    large = simulate(asked(rows=10 * ROWS), Costs())
    assert (large.units, large.slices, large.at_once) == (30_000, 6, 4)  # 8 GPUs, two a driver; 5,000 units a slice


@pytest.mark.parametrize(
    ("encode", "feed", "driver", "held_by", "seconds"),
    [
        # one slice of 1,335,000 rows: 8 encoders, 64 cores, 3,000 units
        (0.001, 0.001, 0.001, "encoding", ROWS * 0.001 / 8),
        (0.0001, 0.01, 0.001, "reading and decoding", ROWS * 0.01 / 64),
        (0.0001, 0.0001, 0.05, "Ray Data's drivers", 3_000 * 0.05),
    ],
)
def test_embedding_takes_as_long_as_what_is_slowest(
    encode: float, feed: float, driver: float, held_by: str, seconds: float
) -> None:
    costs = Costs(driver_unit_seconds=driver, start_seconds=10.0)
    embed = next(stage for stage in simulate(asked(encode=encode, feed=feed), costs).stages if stage.name == "embed")
    assert embed.held_by == held_by
    assert embed.seconds == pytest.approx(seconds + 10.0)


@pytest.mark.parametrize(
    ("puts", "gets", "held_by", "seconds", "limit", "share"),
    [
        # without S3's bounds 1,335,000 rows are encoded in 133.5 s: 3,000 units in 143.5 s with the start of the slice
        (10.0, 1e9, "the writes that S3 takes", 3_000 / 10, "writes to the staging prefix", 3_000 / 143.5 / 10),
        (1e9, 5.0, "the reads that S3 takes", 2 * 1_500 / 5, "reads of the input", 2 * 1_500 / 143.5 / 5),
    ],
)
def test_requests_beyond_what_s3_takes_slow_the_clock_and_are_told(
    puts: float, gets: float, held_by: str, seconds: float, limit: str, share: float
) -> None:
    costs = Costs(driver_unit_seconds=0.0, start_seconds=10.0, s3_puts=puts, s3_gets=gets)
    made = simulate(asked(encode=0.0008, feed=0.001), costs)
    embed = made.stages[1]
    assert (embed.held_by, embed.seconds) == (held_by, pytest.approx(seconds + 10.0))
    assert next(one for one in made.limits if one.name == limit).share == pytest.approx(share)


def test_slices_follow_each_other_on_the_drivers_that_become_free() -> None:
    """Six equal slices on four drivers of two GPUs each: the last two begin when the first four end."""
    embed = simulate(asked(rows=10 * ROWS), Costs(start_seconds=10.0, driver_unit_seconds=0.0)).stages[1]
    one = 10 * ROWS / 6 * 0.001 / 2 + 10.0
    assert embed.seconds == pytest.approx(2 * one)


def test_requests_are_counted_by_hand() -> None:
    made = simulate(asked(), Costs())
    plan, embed, publish = made.stages[:3]
    assert (plan.gets, plan.puts) == (300, 1)  # two a footer, one listing
    shards = -(-ROWS // 131_072)
    assert embed.gets == 2 * 1_500 + 3_000  # two a row group, one a unit when shards are made
    assert embed.puts == 3_000 + 3 * shards + 3
    assert publish.puts == pytest.approx(3 * shards + 2 * 3 * shards / 1_000)
    priced = sum(stage.gets * 0.0004e-3 + stage.puts * 0.005e-3 for stage in made.stages)
    assert made.request_price == pytest.approx(priced)


def test_what_grows_with_rows_is_reached_where_arithmetic_says() -> None:
    costs = Costs(head_base_bytes=0.0, head_file_bytes=0.0, head_unit_bytes=1_000.0)
    limits = {limit.name: limit for limit in simulate(asked(), costs).limits}
    head = limits["memory of the head"]
    assert head.used == 3_000 * 1_000
    assert head.reached_at == pytest.approx(ROWS * 16e9 / 3e6)
    based = {limit.name: limit for limit in simulate(asked(), replace(costs, head_base_bytes=1e9)).limits}
    assert based["memory of the head"].used == 1e9 + 3e6
    assert based["memory of the head"].reached_at == pytest.approx(ROWS * 15e9 / 3e6)
    driver = limits["memory of a driver"]
    assert driver.used == pytest.approx(0.25e9 + 3_000 * 46e3)
    assert driver.reached_at is None  # a slice has no more units than it may
    assert limits["a core of a driver"].reached_at is None


def test_limits_are_told_in_the_order_in_which_they_are_reached() -> None:
    made = simulate(asked(rows=10 * ROWS), replace(Costs(), actor_messages=0.5))
    shares = [limit.share for limit in made.limits]
    assert shares == sorted(shares, reverse=True)
    assert made.as_dict()["breaks_first"] == "messages to one actor"
    assert simulate(asked(), Costs()).as_dict()["breaks_first"] is None


def test_more_drivers_than_the_policy_gives_are_taken() -> None:
    made = simulate(replace(asked(rows=10 * ROWS), drivers=8), Costs())
    assert made.at_once == 8


def test_more_files_than_a_dataset_has_are_refused_with_what_to_type() -> None:
    with pytest.raises(UserError, match=r"--rows-per-file 10: .* give at least 2,385"):
        simulate(replace(asked(rows=5_000_000_000), rows_a_file=10), Costs())


def test_more_row_groups_than_memory_holds_are_refused_with_what_to_type() -> None:
    with pytest.raises(UserError, match=r"--rows-per-group 1: .* give at least 60"):
        simulate(replace(asked(rows=3_000_000_000), rows_a_file=10_000, rows_a_group=1), Costs())


def test_an_index_that_does_not_fit_is_told_and_the_rest_goes_on() -> None:
    made = simulate(replace(asked(), memory=1_000_000), Costs())
    assert made.notes[0].startswith("no index: ")
    assert [stage.name for stage in made.stages] == ["plan", "embed", "publish", "evaluate"]


def test_the_command_prints_stages_and_what_breaks_first() -> None:
    arguments = ["simulate", "--rows", "20M", "--nodes", "3", "--machine", "g6.4xlarge", "--price", "1.32"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "20,000,000 rows in 2,000 files, ViT-B-32, 3 × g6.4xlarge" in done.stdout
    for part in ("embed", "tune the index", "what breaks first", "memory of the head", "dollars"):
        assert part in done.stdout
    document = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert document["units"] == 60_000
    hours = sum(stage["seconds"] for stage in document["stages"]) / 3600
    assert document["machine_price"] == pytest.approx(3 * 1.32 * hours)
