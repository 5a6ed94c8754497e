"""What an earlier version wrote is read, verified, searched, continued and grown by this one.

The datasets are unpacked from an archive that is never made again (README.md). They name their input by absolute path,
so they are unpacked to the place where they were made, afresh for each test.
"""

import fcntl
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from clipmill.storage import lease
from clipmill_jobs.__main__ import main

HERE = Path(__file__).parent
ARCHIVE = HERE / "v0.1.0.tar.xz"
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
PLACE = Path(EXPECTED["place"])
DATASETS = ("embeddings", "index", "caption-index", "report", "duplicates", "selection")
SCORE_TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def held() -> Iterator[None]:
    """One test session of this machine at a time uses the place."""
    with open(f"{PLACE}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        shutil.rmtree(PLACE, ignore_errors=True)


@pytest.fixture
def frozen(held: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place with all datasets as they were written. The runs that left work there were killed on another machine, so
    their leases are watched before they are taken over: not for long here."""
    monkeypatch.setattr(lease, "_STALE_SECONDS", 0.5)
    monkeypatch.chdir(PLACE.parent)
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(PLACE, filter="data")
    return PLACE


def clipmill(*arguments: object) -> Result:
    """A command in this process, where all that is small runs."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeeds(*arguments: object) -> str:
    done = clipmill(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def document(*arguments: object) -> Any:
    return json.loads(succeeds(*arguments, "--json"))


def options_of(name: str) -> tuple[str, ...]:
    """The command that made a dataset, or began to."""
    return (*EXPECTED["commands"][name], "--output", str(PLACE / name))


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def names_of(versions: Any) -> list[str]:
    return [version["name"] for version in versions["versions"]]


@pytest.mark.parametrize("name", [*DATASETS, "published"])
def test_an_old_dataset_verifies(frozen: Path, name: str) -> None:
    assert "whole" in succeeds("verify", frozen / name)


@pytest.mark.parametrize("at", range(2))
def test_every_old_version_verifies_part_by_part(frozen: Path, at: int) -> None:
    version = frozen / "published/runs" / EXPECTED["published"]["versions"][at]["name"]
    for part in ("embeddings", "index", "report"):
        assert "whole" in succeeds("verify", version / part)


def test_old_manifests_count_what_they_counted(frozen: Path) -> None:
    assert document("status", frozen / "embeddings")["finished"]["counts"] == EXPECTED["counts"]
    for name in ("index", "caption-index"):
        found = document("status", frozen / name)["finished"]
        assert {key: found[key] for key in EXPECTED["indices"][name]} == EXPECTED["indices"][name]
    for name in ("duplicates", "selection"):
        found = document("status", frozen / name)["finished"]
        assert {key: found[key] for key in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", list(EXPECTED["searches"]))
def test_an_old_index_finds_what_it_found(frozen: Path, name: str) -> None:
    for search in EXPECTED["searches"][name]:
        wanted = search["results"]
        found = document("search", "--index", frozen / name, "--text", search["text"], "-k", len(wanted))["results"]
        assert [(one["row"], one["id"]) for one in found] == [(one["row"], one["id"]) for one in wanted]
        scores = [one["score"] for one in wanted]
        assert [one["score"] for one in found] == pytest.approx(scores, abs=SCORE_TOLERANCE)


@pytest.mark.parametrize("name", DATASETS)
def test_the_same_command_finds_an_old_dataset_complete(frozen: Path, name: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in (frozen / name).rglob("*")}
    assert document(*options_of(name))["already_complete"]
    assert {path: path.stat().st_mtime_ns for path in (frozen / name).rglob("*")} == before


def test_another_setting_is_told_and_leaves_an_old_dataset_alone(frozen: Path) -> None:
    refused = clipmill(*options_of("embeddings"), "--limit", 10)
    assert refused.exit_code == 2
    assert "limit: was not given, now 10" in refused.stderr
    assert "whole" in succeeds("verify", frozen / "embeddings")


def test_a_new_selection_is_made_of_old_embeddings_and_old_duplicates(frozen: Path) -> None:
    options = ("--embeddings", frozen / "embeddings", "--duplicates", frozen / "duplicates")
    made = document("filter", *options, "--where", "size = 'large'", "--output", frozen / "large")
    assert made["rows"] == EXPECTED["selection"]["rows"]
    assert made["dropped_by_reason"]["duplicate"] == EXPECTED["selection"]["dropped_by_reason"]["duplicate"]
    assert "whole" in succeeds("verify", frozen / "large")


def test_two_old_reports_are_compared(frozen: Path) -> None:
    version = EXPECTED["published"]["current"]
    other = frozen / "published/runs" / version / "report"
    succeeds("compare", frozen / "report", other, "--match", "id", "--output", frozen / "comparison")
    assert (frozen / "comparison/comparison.json").exists()


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_of_a_newer_version_is_refused_in_a_sentence(frozen: Path, name: str) -> None:
    file = frozen / name / ("report.json" if name == "report" else "manifest.json")
    written = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**written, "schema_version": written["schema_version"] + 98}), encoding="utf-8")
    refused = clipmill("verify", frozen / name)
    assert refused.exit_code == 2
    assert f"{frozen / name} was written by a newer clipmill" in refused.stderr
    assert "upgrade clipmill" in refused.stderr


def test_an_index_of_a_newer_version_is_not_searched(frozen: Path) -> None:
    file = frozen / "index/manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 99}), encoding="utf-8")
    refused = clipmill("search", "--index", frozen / "index", "--text", "a red circle")
    assert refused.exit_code == 2
    assert "was written by a newer clipmill" in refused.stderr


def test_an_old_unfinished_run_is_shown_as_it_stood(frozen: Path) -> None:
    for name in ("unfinished", "unfinished-index", "interrupted"):
        assert document("status", frozen / name)["state"] == "unfinished"


def test_other_settings_do_not_mix_with_old_unfinished_work(frozen: Path) -> None:
    staged = {path for path in (frozen / ".unfinished.staging").rglob("*") if path.is_file()}
    done = clipmill(*options_of("unfinished"), "--thumbnails", "32")
    assert done.exit_code == 2, done.stderr
    assert "had other configuration (thumbnails: None, now 32)" in done.stderr
    assert {path for path in (frozen / ".unfinished.staging").rglob("*") if path.is_file()} >= staged


def test_an_old_unfinished_embed_is_continued_and_no_row_is_done_twice(frozen: Path) -> None:
    before = EXPECTED["unfinished"]
    made = json.loads(succeeds(*options_of("unfinished"), "--json"))
    assert made["counts"]["images"] == before["rows"]
    assert [run["finished"] is None for run in made["runs"]] == [True, False]
    assert made["runs"][0]["rows_encoded"] == made["runs"][1]["rows_reused"] == before["rows_done"]
    assert made["runs"][1]["rows_encoded"] == before["rows"] - before["rows_done"]
    assert "whole" in succeeds("verify", frozen / "unfinished")
    assert not list(frozen.glob(".unfinished.*"))


def test_an_old_unfinished_index_is_continued_and_no_shard_is_filled_twice(frozen: Path) -> None:
    before = EXPECTED["unfinished-index"]
    made = json.loads(succeeds(*options_of("unfinished-index"), "--json"))
    assert (made["n"], made["shards"]) == (before["rows"], before["shards"])
    assert [run["finished"] is None for run in made["runs"]] == [True, False]
    assert made["runs"][1]["rows_reused"] >= before["shards_done"] * (before["rows"] // before["shards"])
    assert made["runs"][1]["rows_encoded"] + made["runs"][1]["rows_reused"] == before["rows"]
    assert "whole" in succeeds("verify", frozen / "unfinished-index")
    assert not list(frozen.glob(".unfinished-index.*"))


def test_an_old_interrupted_publication_goes_on_with_the_version_it_was_making(frozen: Path) -> None:
    making = json.loads((frozen / "interrupted/unfinished.json").read_text(encoding="utf-8"))["name"]
    succeeds("run", frozen / "interrupted.yaml")
    versions = document("versions", frozen / "interrupted")
    assert (names_of(versions), versions["current"]) == ([making], making)
    before = EXPECTED["interrupted"]
    runs = manifest_of(frozen / "interrupted/runs" / making / "embeddings")["runs"]
    assert [(run["rows_reused"], run["rows_encoded"]) for run in runs] == [
        (0, before["rows_done"]),
        (before["rows_done"], before["rows"] - before["rows_done"]),
    ]
    assert "whole" in succeeds("verify", frozen / "interrupted")
    assert not (frozen / "interrupted/unfinished.json").exists()


def test_old_versions_are_listed(frozen: Path) -> None:
    versions = document("versions", frozen / "published")
    assert versions["current"] == EXPECTED["published"]["current"]
    wanted = EXPECTED["published"]["versions"]
    found = [{key: version[key] for key in one} for version, one in zip(versions["versions"], wanted, strict=True)]
    assert found == wanted


def test_a_night_without_changes_leaves_an_old_publication_unchanged(frozen: Path) -> None:
    assert "unchanged" in succeeds("run", frozen / "nightly.yaml")
    assert document("versions", frozen / "published")["current"] == EXPECTED["published"]["current"]


def test_an_old_publication_is_rolled_back_and_forward(frozen: Path) -> None:
    first, second = (version["name"] for version in EXPECTED["published"]["versions"])
    for options, current in (((), first), (("--to", second), second)):
        succeeds("rollback", frozen / "published", *options)
        assert document("versions", frozen / "published")["current"] == current
        assert "whole" in succeeds("verify", frozen / "published")


def test_an_old_publication_is_pruned(frozen: Path) -> None:
    succeeds("prune", frozen / "published", "--keep", 1)
    versions = document("versions", frozen / "published")
    assert names_of(versions) == [versions["current"]] == [EXPECTED["published"]["current"]]
    assert "whole" in succeeds("verify", frozen / "published")


def test_one_more_night_grows_an_old_publication_by_the_new_rows_alone(frozen: Path) -> None:
    shutil.copy2(frozen / "third-night/third.parquet", frozen / "nightly/third.parquet")
    succeeds("run", frozen / "nightly.yaml")
    versions = document("versions", frozen / "published")
    first, second = (version["name"] for version in EXPECTED["published"]["versions"])
    third = next(version for version in versions["versions"] if version["name"] == versions["current"])
    assert set(names_of(versions)) == {first, second, third["name"]}
    assert third["base"] == second
    assert third["rows_encoded"] == EXPECTED["third_night_rows"]
    assert third["rows_reused"] == EXPECTED["published"]["versions"][1]["counts"]["rows"]
    assert "whole" in succeeds("verify", frozen / "published")
    added = pq.read_table(frozen / "third-night/third.parquet", columns=["id"]).column("id")[0].as_py()
    found = document("search", "--index", frozen / "published", "--id", added, "-k", 1)["results"]
    assert found[0]["id"] == added
    succeeds("prune", frozen / "published", "--keep", 1)
    assert third["name"] in names_of(document("versions", frozen / "published"))
    assert first not in names_of(document("versions", frozen / "published"))
    assert "whole" in succeeds("verify", frozen / "published")


def test_a_takedown_reaches_the_rows_of_an_old_publication(frozen: Path) -> None:
    taken = EXPECTED["searches"]["published"][0]["results"][0]["id"]
    (frozen / "ids.txt").write_text(f"{taken}\n", encoding="utf-8")
    succeeds("remove", frozen / "published", "--ids", frozen / "ids.txt")
    succeeds("run", frozen / "nightly.yaml")
    refused = clipmill("search", "--index", frozen / "published", "--id", taken)
    assert refused.exit_code == 2
    versions = document("versions", frozen / "published")
    assert versions["current"] != EXPECTED["published"]["current"]
    encoded = {version["name"]: version["rows_encoded"] for version in versions["versions"]}
    assert encoded[versions["current"]] == 0
    kept = clipmill("verify", frozen / "published")
    assert kept.exit_code == 1
    assert "hold what was taken down" in kept.output
    succeeds("prune", frozen / "published", "--keep", 1)
    assert "whole" in succeeds("verify", frozen / "published")


def test_the_archive_names_no_place_but_its_own(frozen: Path) -> None:
    assert not [
        path
        for path in frozen.rglob("*")
        if path.is_file() and any(word in path.read_bytes() for word in (b"/work/", b"/root", b"/home/"))
    ]
    assert not [path for path in frozen.rglob("*") if os.path.islink(path)]
