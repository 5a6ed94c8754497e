"""An evaluation that was stopped is continued: no part is measured twice, and the report is that of one go."""

import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from captioned import identity, pairs, write_captioned
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation import index_quality, quality
from clipmill.evaluation.classification import classification, few_shot, probe
from clipmill.evaluation.retrieval import piece, retrieval
from clipmill.index.search.search import Index
from clipmill.report.document import Report
from clipmill.stage.stage import Made
from dying import dying
from reported import evaluate

IMAGES, CAPTIONS, ROWS = pairs(12, 2)
WORDS = pairs(2, 1)[0]
MARK = ".report.staging.owner.json"
PIECE = 9
MEASURES = [
    (piece, "read_part"),
    (retrieval, "summarise"),
    (quality, "align"),
    (quality, "choose_examples"),
    (quality, "text_to_image_ceiling"),
    (classification, "classify"),
    (classification, "measure_supervised"),
    (index_quality, "measure_fidelity"),
    (index_quality, "exact_results"),
]
PARTS = {
    "read_part": 3 * 2 + 2 * 4,
    "summarise": 2,
    "align": 1,
    "choose_examples": 1,
    "text_to_image_ceiling": 1,
    "classify": 1,
    "measure_supervised": 1,
    "measure_fidelity": 1,
    "exact_results": 1,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    labels = ["cat", "dog"] * 6
    folder = tmp_path_factory.mktemp("embeddings")
    return write_captioned(folder, IMAGES, CAPTIONS, ROWS, labels=labels, model=identity(16))


@pytest.fixture(scope="module")
def index(dataset: str, indexed: Callable[..., Index]) -> str:
    return str(Path(indexed(Embeddings.open(dataset), shards=2).table.paths[0]).parent)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece, "PIECE_QUERIES", PIECE)
    monkeypatch.setattr(piece, "PIECE_PRODUCTS", 1)
    monkeypatch.setattr(piece, "GALLERY_BLOCK", 7)
    monkeypatch.setattr(few_shot, "SHOTS", (1,))
    monkeypatch.setattr(probe, "FINER", ())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each measure was taken to its end."""
    counts: Counter[str] = Counter()

    def counted(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            counts[name] += 1
            return result

        return run

    for module, name in MEASURES:
        monkeypatch.setattr(module, name, counted(getattr(module, name), name))
    return counts


def load_encoder(model: object) -> Callable[[list[str]], NDArray[np.float32]]:
    return lambda texts: np.array([WORDS[int("dog" in text)] for text in texts], np.float32)


def settings(dataset: str, index: str | None, output: Path, **values: Any) -> EvaluateSettings:
    given = {"templates": "plain", "bootstrap_samples": 20, **values}
    return EvaluateSettings(embeddings=dataset, index=index, output=str(output), **given)


def run(asked: EvaluateSettings) -> Made[Report]:
    return evaluate(asked, load_encoder)


def figures(report: Report) -> dict[str, Any]:
    """The report without what is another in every run: times, and the command with its place."""
    document = report.model_dump(exclude={"created", "seconds", "command", "summary"})
    document["fidelity"] = [
        (figure.key, figure.value) for figure in report.fidelity.figures if figure.unit != "milliseconds"
    ]
    return document


def test_it_may_die_at_any_instant(dataset: str, index: str, measured: Counter[str], tmp_path: Path) -> None:
    whole = figures(run(settings(dataset, index, tmp_path / "reference")).manifest)
    assert dict(measured) == PARTS
    for instant in itertools.count():
        measured.clear()
        output = tmp_path / f"{instant}" / "report"
        asked = settings(dataset, index, output)
        with dying(lambda asked, instant=instant: asked == instant) as died:
            run(asked)
        if not died():
            break
        before = dict(measured)
        kept = {path.stem for path in output.parent.glob(".report.staging/*/parts/*.npz")}
        measured.clear()
        done = run(asked)
        if not done.already:
            assert measured["read_part"] == PARTS["read_part"] - sum(name.startswith("counts") for name in kept)
            assert measured["summarise"] == 2 - sum(name.startswith("retrieval") for name in kept)
            for name, measure in (
                ("alignment", "align"),
                ("examples", "choose_examples"),
                ("ceilings", "text_to_image_ceiling"),
                ("zero-shot", "classify"),
                ("supervised", "measure_supervised"),
                ("fidelity", "measure_fidelity"),
            ):
                assert measured[measure] == (name not in kept)
            assert sum(before.values()) + sum(measured.values()) <= sum(PARTS.values()) + 2
        assert figures(done.manifest) == whole
        assert {path.name for path in output.iterdir()} == {
            f"report.{end}" for end in ("csv", "html", "json", "md", "queries.parquet")
        }
        assert {path.name for path in output.parent.iterdir() if not path.name.startswith(MARK)} == {"report"}
        shutil.rmtree(output.parent)
    assert instant > 60


def stop_after(part: str, asked: EvaluateSettings) -> Path:
    """Dies as soon as this part is kept, and returns the staging folder."""
    parent = Path(asked.output).parent / f".{Path(asked.output).name}.staging"
    with dying(lambda _: bool(list(parent.glob(f"*/parts/{part}.npz")))) as died:
        run(asked)
    assert died()
    return next(path for path in parent.iterdir() if path.is_dir())


def test_unfinished_work_towards_another_report_is_refused_and_dropped_only_when_asked(
    dataset: str, index: str, measured: Counter[str], tmp_path: Path
) -> None:
    folder = stop_after("retrieval-t2i", settings(dataset, index, tmp_path / "report"))
    before = sorted(folder.rglob("*"))
    with pytest.raises(OutputDiffers, match=r"other settings \(seed: 0, now 3\)"):
        run(settings(dataset, index, tmp_path / "report", seed=3))
    with pytest.raises(OutputDiffers, match="other index manifest;"):
        run(settings(dataset, None, tmp_path / "report"))
    assert sorted(folder.rglob("*")) == before
    measured.clear()
    run(settings(dataset, index, tmp_path / "report", seed=3, overwrite=True))
    assert dict(measured) == PARTS
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_the_encoder_and_the_index_are_not_opened_for_what_is_measured(
    dataset: str, indexed: Callable[..., Index], tmp_path: Path
) -> None:
    index = Path(indexed(Embeddings.open(dataset)).table.paths[0]).parent
    asked = settings(dataset, str(index), tmp_path / "report")
    stop_after("fidelity", asked)
    (index / "shard-00000.faiss").unlink()

    def no_encoder(model: object) -> None:
        raise AssertionError("the class names were encoded before")

    done = evaluate(asked, no_encoder)
    report = done.manifest
    assert not done.already
    assert report.zero_shot is not None
    assert report.fidelity is not None


def test_the_time_of_earlier_starts_belongs_to_the_report(dataset: str, index: str, tmp_path: Path) -> None:
    asked = settings(dataset, index, tmp_path / "report")
    folder = stop_after("alignment", asked)
    _pretend_seconds(folder / "parts" / "alignment.npz", 7200.0)
    assert run(asked).manifest.seconds > 7200


def _pretend_seconds(place: Path, seconds: float) -> None:
    from clipmill.evaluation.retrieval.alignment import Alignment
    from clipmill.stage.checkpoints import Computed, load, save
    from clipmill.storage import resolve

    found = load(resolve(place), Computed[Alignment])
    assert found is not None
    save(resolve(place), Computed(found.value, seconds))


def test_a_mistake_found_late_leaves_nothing_to_continue(dataset: str, tmp_path: Path) -> None:
    def another_model(model: object) -> None:
        raise UserError("these weights did not make the embeddings")

    with pytest.raises(UserError, match="did not make"):
        evaluate(settings(dataset, None, tmp_path / "report"), another_model)
    assert list(tmp_path.iterdir()) == []
