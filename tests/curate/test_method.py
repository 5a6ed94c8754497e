"""The method is the same for the same rows and settings, exact where that is cheap, and told with its reason."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill.core.errors import OutputDiffers
from clipmill.core.manifests import DuplicatesManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import DedupSettings
from clipmill.core.settings.base import build
from clipmill.curate import method
from clipmill.curate.dedup import make_dedup
from clipmill.curate.graph import find_duplicates
from clipmill.curate.method import cells_for, choose_method
from clipmill.curate.steps import rotate
from clipmill.engine.here import Here
from clipmill_jobs import dedup as job
from clipmill_jobs import status
from planted import planted_embeddings, planted_vectors


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> str:
    return planted_embeddings(tmp_path_factory.mktemp("embeddings"), planted_vectors())


def find_here(embeddings: str, output: Path, **settings: str) -> DuplicatesManifest:
    made = build(DedupSettings, {"embeddings": embeddings, "output": str(output), "threshold": 0.95, **settings})
    dedup = make_dedup(made)
    return dedup.run(lambda work: find_duplicates(dedup, work, Here(1), Silent())).manifest


def begin(embeddings: str, output: Path, **settings: str) -> None:
    """Begins work and leaves it."""
    dedup = make_dedup(build(DedupSettings, {"embeddings": embeddings, "output": str(output), **settings}))
    dedup.staging.open()
    rotate(dedup)


@pytest.mark.parametrize(
    ("asked", "rows", "threshold", "chosen", "why"),
    [
        ("auto", 100_000, 0.95, "exact", "up to 100,000 rows are compared exactly in minutes"),
        ("auto", 100_001, 0.95, "clusters", "comparing 100,001 rows exactly would take about 2 core-minutes"),
        ("auto", 10_000_000, 0.95, "clusters", "would take about 250 core-hours"),
        ("auto", 10_000_000, 0.5, "exact", "below a threshold of 0.9 rows look into many clusters"),
        ("exact", 10_000_000, 0.95, "exact", "--method exact was given"),
        ("clusters", 10, 0.95, "clusters", "--method clusters was given"),
    ],
)
def test_the_method_follows_from_rows_and_threshold(
    asked: str, rows: int, threshold: float, chosen: str, why: str
) -> None:
    choice = choose_method(asked, rows, threshold)
    assert choice.method == chosen
    assert why in choice.why


def test_cells_grow_slower_than_rows_and_hold_enough_of_them() -> None:
    assert [cells_for(rows) for rows in (1, 31, 64, 3200)] == [1, 1, 2, 100]
    assert cells_for(1_000_000) == pytest.approx(1_000_000**0.6, abs=1)


def test_the_method_that_was_chosen_is_in_the_manifest_and_auto_takes_either(embeddings: str, tmp_path: Path) -> None:
    exact = find_here(embeddings, tmp_path / "exact", method="auto")
    assert (exact.method, exact.recall, exact.clusters) == ("exact", None, None)
    assert exact.why.startswith("up to 100,000 rows")
    clusters = find_here(embeddings, tmp_path / "clusters", method="clusters")
    assert clusters.method == "clusters"
    assert clusters.recall is not None
    assert find_here(embeddings, tmp_path / "clusters", method="auto") == clusters
    assert find_here(embeddings, tmp_path / "exact", method="exact") == exact
    with pytest.raises(OutputDiffers, match="method: was exact, now clusters"):
        find_here(embeddings, tmp_path / "exact", method="clusters")


def test_auto_is_clusters_above_so_many_rows(embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method, "EXACT_ROWS", 2000)
    made = find_here(embeddings, tmp_path / "found", keep="first")
    assert (made.method, made.why) == ("clusters", "comparing 3,000 rows exactly would take about 0 core-minutes")
    assert made.recall is not None
    assert made.recall.in_words(0.95).startswith("finds ")


def test_another_linkage_is_another_output(embeddings: str, tmp_path: Path) -> None:
    chain = find_here(embeddings, tmp_path / "chain", linkage="chain")
    with pytest.raises(OutputDiffers, match="linkage: was chain, now complete"):
        find_here(embeddings, tmp_path / "chain", linkage="complete")
    complete = find_here(embeddings, tmp_path / "complete", linkage="complete")
    with pytest.raises(OutputDiffers, match="linkage: was complete, now chain"):
        find_here(embeddings, tmp_path / "complete")
    begin(embeddings, tmp_path / "begun", threshold="0.95", linkage="complete")
    with pytest.raises(OutputDiffers, match="linkage"):
        find_here(embeddings, tmp_path / "begun")
    assert (chain.groups, chain.rows_in_groups, chain.largest_group) == (2, 5, 3)
    assert (complete.groups, complete.rows_in_groups, complete.largest_group) == (2, 4, 2)
    assert chain.least_cosine == pytest.approx(0.97 * 0.96, abs=0.08)
    assert complete.least_cosine == pytest.approx(0.97, abs=2e-3)


@pytest.mark.parametrize("chosen", ["exact", "clusters"])
def test_the_command_tells_the_method_why_and_what_share_it_finds(embeddings: str, tmp_path: Path, chosen: str) -> None:
    options = ["--embeddings", embeddings, "--output", str(tmp_path / "found"), "--method", chosen]
    told = CliRunner().invoke(job.command, options)
    assert told.exit_code == 0, told.output
    share = "finds all pairs" if chosen == "exact" else "of pairs of .95 and more"
    assert f"{chosen} (--method {chosen} was given): finds " in told.stdout
    assert share in told.stdout
    assert "the two rows of a group that are least alike at a cosine of ." in told.stdout
    stated = CliRunner().invoke(status.command, [str(tmp_path / "found")])
    assert ("of pairs of .95 and more" in stated.stdout) == (chosen == "clusters")
