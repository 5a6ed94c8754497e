"""An option is declared once, as a field of the settings; what the command line says of it follows."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from clipmill.core.settings import (
    ClusterSettings,
    CompareSettings,
    EmbedSettings,
    EvaluateSettings,
    IndexSettings,
    SampleSettings,
    Settings,
)
from clipmill_jobs.__main__ import JOBS, main
from clipmill_jobs.command import Job
from clipmill_jobs.options import cluster_options, settings_options


def built(arguments: list[str], **models: type[Settings]) -> dict[str, Any]:
    """The settings that a command of these models is handed."""
    found: dict[str, Any] = {}

    @click.command("try", cls=Job)
    @settings_options(**models)
    def command(**settings: Any) -> None:
        found.update(settings)

    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    return found


def refused(arguments: list[str], **models: type[Settings]) -> str:
    @click.command("try", cls=Job)
    @settings_options(**models)
    def command(**settings: Any) -> None:
        raise AssertionError

    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2
    return done.stderr


def test_a_command_is_handed_the_settings_of_each_model() -> None:
    found = built(
        [
            "--input",
            "in",
            "--output",
            "out",
            "--limit",
            "10M",
            "--keep-columns",
            "a, b",
            "--max-rejects",
            "1%",
            "--cpus",
            "2",
        ],
        settings=EmbedSettings,
        cluster=ClusterSettings,
    )
    settings: EmbedSettings = found["settings"]
    assert (settings.limit, settings.keep_columns, settings.max_rejects) == (10_000_000, ("a", "b"), 0.01)
    assert settings.model_fields_set == {"input", "output", "limit", "keep_columns", "max_rejects", "overwrite"}
    assert found["cluster"] == ClusterSettings(cpus=2)


def test_what_is_not_given_has_the_default_of_the_model() -> None:
    found = built(["--embeddings", "in", "--output", "out"], settings=IndexSettings)
    assert found["settings"] == IndexSettings(embeddings="in", output="out")
    assert "target_recall" not in found["settings"].model_fields_set


def test_a_tuple_is_given_several_times_and_a_flag_can_be_negated() -> None:
    arguments = ["--embeddings", "in", "--output", "out", "--slice-by", "a", "--slice-by", "b", "--no-probe"]
    settings = built(arguments, settings=EvaluateSettings)["settings"]
    assert (settings.slice_by, settings.probe) == (("a", "b"), False)


def test_an_argument_and_a_short_name_come_from_the_field_too() -> None:
    assert built(["a", "b", "--output", "out"], settings=CompareSettings)["settings"].reports == ("a", "b")
    assert built(["--embeddings", "e", "--output", "o", "-k", "5"], settings=IndexSettings)["settings"].k == 5


def test_all_mistakes_are_told_at_once_by_their_options() -> None:
    said = refused(
        ["--limit", "ten", "--precision", "fp8", "--batch-size", "-1", "--cpus", "x", "--max-rejects", "many"],
        settings=EmbedSettings,
        cluster=ClusterSettings,
    )
    for words in (
        "--input is missing",
        "--output is missing",
        "--limit: 'ten' is not a whole number; a letter may follow it, such as 500k, 10M or 5e9",
        "--precision: 'fp8' is not one of 'auto', 'fp32', 'bf16' or 'int8'",
        "--batch-size: must be 0 or more; '-1' was given",
        "--cpus: 'x' is not a whole number",
        "--max-rejects: 'many' is neither",
    ):
        assert words in said
    assert len(said.splitlines()) == 1
    assert "-k: must be 1 or more" in refused(["--embeddings", "e", "--output", "o", "-k", "0"], settings=IndexSettings)
    assert "REPORT: give two reports or more" in refused(["a", "--output", "o"], settings=CompareSettings)


def test_help_tells_what_the_field_says_under_the_heading_of_its_model() -> None:
    told = CliRunner().invoke(main, ["embed", "--help"], prog_name="clipmill").output
    headings = [line for line in told.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Input:", "Model:", "Output:", "General:", "Ray cluster:"]
    assert "--precision [auto|fp32|bf16|int8]" in told
    assert "--thumbnails PX" in told
    assert "[default: 178956970]" in " ".join(told.split())
    told = CliRunner().invoke(main, ["index", "--help"], prog_name="clipmill").output
    assert "--memory SIZE" in told
    assert "[default: 4GiB]" in told
    assert "[default: auto]" in told
    assert "--merge" not in told
    assert "--num-gpu-actors" not in told


def test_a_field_that_a_command_leaves_out_keeps_its_default() -> None:
    found = {}

    @click.command("try", cls=Job)
    @cluster_options
    def command(cluster: ClusterSettings) -> None:
        found["cluster"] = cluster

    assert CliRunner().invoke(command, ["--stall-timeout", "5"]).exit_code == 0
    assert found["cluster"] == ClusterSettings(stall_timeout=5)


@pytest.mark.parametrize("name", JOBS)
def test_every_option_has_a_word_of_help(name: str) -> None:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    jobs = found.commands.values() if isinstance(found, click.Group) else [found]
    for job in jobs:
        for parameter in job.params:
            assert not isinstance(parameter, click.Option) or parameter.help, f"{job.name} {parameter.opts}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serch"], "did you mean search"),
        (["import", "cvs", "x"], "did you mean csv"),
        (["embed", "--inptu", "x"], "--input"),
        (["search", "out/index", "a star"], 'type: clipmill search --index out/index --text "a star"'),
        (["search", "--index", "out/index", "a", "star"], 'type: clipmill search --index out/index --text "a star"'),
        (["search", "out/index", "--id", "7"], 'type: clipmill search --index out/index --id "7"'),
        (["search", "--text", "x"], "--index is missing"),
        (["sample", "--output", "o", "--rows", "0"], "--rows: must be 1 or more"),
        (["plan", "--rows", "many"], "500k, 10M or 5e9"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments, prog_name="clipmill")
    assert done.exit_code == 2
    assert said in done.output


def test_rows_may_have_a_letter_wherever_they_are_given(tmp_path: Path) -> None:
    assert built(["--rows", "5e3", "--output", "o"], settings=SampleSettings)["settings"].rows == 5000
    done = CliRunner().invoke(main, ["plan", "--rows", "10M", "--model", "ViT-B-32", "--json"], prog_name="clipmill")
    assert '"rows": 10000000' in done.output
