"""Rows that are embedded in this process become what a cluster makes of them, and stop and continue as there."""

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from apart import apart
from clipmill.core.errors import OutputDiffers, RunFailed, UserError
from clipmill.core.gpus import FAKE_GPUS
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, SampleSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.embedding import steps
from clipmill.embedding.layout import parts_of
from clipmill.runs.stages import embed_stage
from clipmill.scenes.dataset import write_scenes
from clipmill.source import decode_many
from clipmill.source.decode_many import JpegDecoder, jpeg_decoder
from clipmill.stage.stage import Made

ROWS, REJECTED = 300, {"not_an_image": 1, "truncated_image": 1, "missing_image": 1, "empty_caption": 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered scenes in several units, of which some pictures and captions are none."""
    folder = tmp_path_factory.mktemp("here") / "scenes"
    write_scenes(SampleSettings(output=str(folder), rows=ROWS, image_size=48), Silent())
    rows = pq.read_table(folder / "part-00000.parquet").to_pylist()
    rows[3]["image"]["bytes"] = b"no picture"
    rows[170]["image"]["bytes"] = rows[170]["image"]["bytes"][:40]
    rows[171]["image"] = {"bytes": None, "path": None}
    rows[40]["caption"], rows[171]["caption"] = ["", "a red circle"], [" "]
    schema = pq.read_schema(folder / "part-00000.parquet")
    spoiled = folder.parent / "spoiled"
    spoiled.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema), spoiled / "rows.parquet", row_group_size=50)
    shutil.rmtree(folder)
    return spoiled


def embed(source: Path, output: Path, cluster: dict[str, Any], **settings: Any) -> Made[EmbeddingsManifest]:
    values = {"input": str(source), "output": str(output), "keep_columns": ["label", "scene"], **settings}
    return embed_stage(EmbedSettings(**values), ClusterSettings(**cluster), Silent())


def tables_of(output: Path) -> dict[str, pa.Table]:
    dataset = Embeddings.open(str(output))
    return {
        part: pa.concat_tables(dataset.open_shard(one).read() for one in dataset.shards_of(part))
        for part in parts_of(dataset.manifest)
    }


@pytest.mark.cluster
def test_the_tables_are_those_that_a_cluster_makes_value_for_value(source: Path, tmp_path: Path) -> None:
    here = embed(source, tmp_path / "here", {"cpus": 1}, thumbnails=32).manifest
    there = apart(embed, source, tmp_path / "there", {"address": "local", "cpus": 1}, thumbnails=32).manifest
    ours, theirs = tables_of(tmp_path / "here"), tables_of(tmp_path / "there")
    assert {part: table.num_rows for part, table in ours.items()} == {
        "images": ROWS - 3,
        "captions": here.counts.captions,
        "rejected": 5,
    }
    for part in ours:
        assert ours[part].schema.equals(theirs[part].schema)
        assert ours[part].equals(theirs[part]), part
    assert here.counts == there.counts
    assert here.counts.rejected_by_reason == REJECTED
    assert (here.configuration, here.model, here.encoded_with) == (there.configuration, there.model, there.encoded_with)


def refused(how: dict[str, Any], source: Path, output: Path, said: str) -> None:
    with pytest.raises(UserError, match=said):
        embed(source, output, how, decode="gpu")


def test_decoding_on_a_gpu_makes_the_same_tables_and_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FAKE_GPUS, raising=False)
    refused({"cpus": 1, "device": "cpu"}, source, tmp_path / "gpu", "--decode gpu: .* encoders run on CPUs")
    if not torch.cuda.is_available():
        refused({"cpus": 1}, source, tmp_path / "gpu", "--decode gpu: .* encoders run on CPUs")
    monkeypatch.setenv(FAKE_GPUS, "1")
    decoded = []

    def counted() -> JpegDecoder:
        return lambda jpegs: decoded.extend(jpegs) or jpeg_decoder()(jpegs)

    monkeypatch.setattr(decode_many, "jpeg_decoder", counted)
    there = embed(source, tmp_path / "gpu", {"cpus": 1, "device": "cpu"}, thumbnails=32, decode="gpu").manifest
    assert len(decoded) == ROWS - 3
    here = embed(source, tmp_path / "cpu", {"cpus": 1, "device": "cpu"}, thumbnails=32).manifest
    assert len(decoded) == ROWS - 3
    for part, table in tables_of(tmp_path / "cpu").items():
        assert table.equals(tables_of(tmp_path / "gpu")[part]), part
    assert here.configuration == there.configuration
    assert there.counts.rejected_by_reason == REJECTED
    assert all("decoding too" in how for how in there.encoded_with)
    assert not any("decoding too" in how for how in here.encoded_with)


def embed_with_fake_gpus(source: Path, output: Path, cluster: dict[str, Any]) -> Made[EmbeddingsManifest]:
    """For a process of its own, whose environment is not that of the test."""
    os.environ[FAKE_GPUS] = "1"
    return embed(source, output, cluster, decode="gpu")


@pytest.mark.cluster
def test_encoders_of_a_cluster_decode_where_that_is_asked_for(source: Path, tmp_path: Path) -> None:
    here = embed(source, tmp_path / "here", {"cpus": 1, "device": "cpu"}).manifest
    settings = {"address": "local", "cpus": 1, "device": "cpu"}
    there = apart(embed_with_fake_gpus, source, tmp_path / "there", settings).manifest
    for part, table in tables_of(tmp_path / "here").items():
        assert table.equals(tables_of(tmp_path / "there")[part]), part
    assert all("decoding too" in how for how in there.encoded_with)
    assert here.counts == there.counts


def test_several_threads_make_the_rows_of_one_in_the_same_order(source: Path, tmp_path: Path) -> None:
    one = embed(source, tmp_path / "one", {"cpus": 1}).manifest
    several = embed(source, tmp_path / "several", {"cpus": 3}).manifest
    assert (one.hardware["encoders"], several.hardware["encoders"]) == (1, 3)
    assert tables_of(tmp_path / "one") == tables_of(tmp_path / "several")


def test_a_stopped_run_continues_and_embeds_no_unit_twice(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: list[int] = []
    commit = steps.commit_unit

    def stopping(layout: Any, unit: int, packed: pa.Table) -> None:
        if len(committed) == 2:
            raise KeyboardInterrupt
        commit(layout, unit, packed)
        committed.append(unit)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "commit_unit", stopping)
        with pytest.raises(KeyboardInterrupt):
            embed(source, tmp_path / "out", {"cpus": 1})
    assert not (tmp_path / "out").exists()
    manifest = embed(source, tmp_path / "out", {"cpus": 1}).manifest
    first, second = manifest.runs
    assert first.rows_encoded == second.rows_reused > 0
    assert second.rows_encoded == ROWS - second.rows_reused
    embed(source, tmp_path / "straight", {"cpus": 1})
    assert tables_of(tmp_path / "out") == tables_of(tmp_path / "straight")
    assert embed(source, tmp_path / "out", {"cpus": 1}).already


def test_a_failure_is_told_with_file_and_rows_and_keeps_what_is_done(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmill.embedding import unit

    encode_unit = unit.encode_unit

    def failing(model: Any, decoded: pa.Table, *others: Any, **options: Any) -> Any:
        if 200 in decoded.column("row").to_pylist():
            raise RuntimeError("a tensor of the wrong shape")
        return encode_unit(model, decoded, *others, **options)

    with monkeypatch.context() as patch:
        patch.setattr(unit, "encode_unit", failing)
        with pytest.raises(
            RunFailed, match=r"encoding rows \d+ to \d+ of .*rows\.parquet failed: RuntimeError: a tensor"
        ):
            embed(source, tmp_path / "out", {"cpus": 1})
    assert embed(source, tmp_path / "out", {"cpus": 1}).manifest.runs[-1].rows_reused > 0


def test_too_many_rejects_end_the_run_and_a_higher_limit_continues(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="--max-rejects 0"):
        embed(source, tmp_path / "out", {"cpus": 1}, max_rejects=0)
    assert not (tmp_path / "out").exists()
    assert embed(source, tmp_path / "out", {"cpus": 1}, max_rejects=5).manifest.counts.rejected_by_reason == REJECTED


def test_paths_that_lead_out_of_the_input_are_rejects_until_they_are_allowed(source: Path, tmp_path: Path) -> None:
    """A table of paths, and one of structs whose bytes are there: their path is only a name."""
    picture = pq.read_table(source / "rows.parquet").column("image")[0].as_py()["bytes"]
    for folder in ("in", "outside"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(picture)
    secret = tmp_path / "outside/secret.txt"
    secret.write_text("secret: 12345")
    (tmp_path / "in/link.png").symlink_to("../outside/a.png")
    outside = [str(tmp_path / "outside/a.png"), "../outside/a.png", "link.png", "../outside/secret.txt", "/etc/passwd"]
    pq.write_table(pa.table({"image_path": ["a.png", *outside]}), tmp_path / "in/paths.parquet")
    named = embed(tmp_path / "in", tmp_path / "strict", {"cpus": 1}, keep_columns=[]).manifest
    assert named.counts.images == 1
    assert named.counts.rejected_by_reason == {"outside_of_input": 5}
    details = tables_of(tmp_path / "strict")["rejected"].column("detail").to_pylist()
    assert all("--allow-outside" in detail for detail in details)
    allowed = {"keep_columns": [], "allow_outside": [str(tmp_path / "outside")]}
    with pytest.raises(OutputDiffers, match="allow outside: was not given"):
        embed(tmp_path / "in", tmp_path / "strict", {"cpus": 1}, **allowed)
    wide = embed(tmp_path / "in", tmp_path / "wide", {"cpus": 1}, **allowed).manifest
    assert wide.counts.images == 4
    assert wide.counts.rejected_by_reason == {"outside_of_input": 1, "not_an_image": 1}
    assert "12345" not in str(tables_of(tmp_path / "wide")["rejected"].to_pylist())

    column = pa.array(
        [{"bytes": picture, "path": "/etc/passwd"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    (tmp_path / "structs").mkdir()
    pq.write_table(pa.table({"image": column}), tmp_path / "structs/a.parquet")
    assert embed(tmp_path / "structs", tmp_path / "whole", {"cpus": 1}, keep_columns=[]).manifest.counts.images == 1


def test_captions_that_are_longer_than_the_model_reads_are_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    captions = [["a dog", "dog " * 500], ["dog " * 400], [], ["", "two dogs"]]
    pq.write_table(pa.table({"caption": captions}), tmp_path / "in" / "rows.parquet")
    settings = EmbedSettings(input=str(tmp_path / "in"), output=str(tmp_path / "out"))
    manifest = embed_stage(settings, ClusterSettings(cpus=1, device="cpu"), Silent()).manifest
    assert (manifest.counts.captions, manifest.truncated_captions) == (4, 2)
