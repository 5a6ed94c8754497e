"""A secret that a user puts anywhere in a command comes out nowhere."""

from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from clipmill_jobs.__main__ import JOBS, main

SECRET = "wJalrXUtnFEMI7MDENG"
PLACES = [
    f"s3://AKIAKEY:{SECRET}@bucket/a",
    f"s3:/AKIAKEY:{SECRET}@bucket/a",
    f"https://host/a.jpg?X-Amz-Signature={SECRET}",
    f"gs://bucket/a?token={SECRET}",
]


def commands() -> list[tuple[str, ...]]:
    importing = main.get_command(click.Context(main), "import")
    assert isinstance(importing, click.Group)
    return [(job,) for job in JOBS if job not in ("import", "demo")] + [("import", form) for form in importing.commands]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_secret_in_any_option_is_never_shown(
    words: tuple[str, ...], as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One option at a time, and as an argument, the others being places where nothing is."""
    monkeypatch.chdir(tmp_path)
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    required = {"--input", "--output", "--embeddings", "--index", "--source", "--images", "--to"}
    options = [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count
    ]
    for place in PLACES:
        for asked in [None, *options]:
            line = list(words)
            for option in options:
                name = max(option.opts, key=len)
                if option is asked:
                    line += [name, place]
                elif name in required:
                    line += [name, str(tmp_path / "absent")]
            if asked is None or any(isinstance(one, click.Argument) for one in command.params):
                line += [place if asked is None else str(tmp_path / "absent")] * (2 if words == ("compare",) else 1)
            done = CliRunner().invoke(main, [*line, *(["--log-json"] if as_json else [])])
            assert done.exit_code != 0, line
            assert SECRET not in done.output, line
            assert isinstance(done.exception, SystemExit), (line, done.exception)
    for path in tmp_path.rglob("*"):
        assert SECRET not in str(path)
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_a_secret_in_the_rows_of_an_input_is_not_published_among_the_rejects(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    paths = ["/a.jpg", *PLACES]
    pq.write_table(pa.table({"image_path": paths, "caption": ["a"] * len(paths)}), tmp_path / "in/a.parquet")
    line = [
        "embed",
        "--input",
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
        "--cpus",
        "1",
        "--keep-columns",
        "caption",
    ]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    rejected = [pq.read_table(path).to_pylist() for path in (tmp_path / "out/rejected").glob("*.parquet")]
    assert sum(map(len, rejected)) == len(paths)
    assert SECRET not in str(rejected)
    for path in tmp_path.glob("out/*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()
