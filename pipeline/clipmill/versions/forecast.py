"""What a run is expected to take, forecast from the run before, and beside it what it took."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipmill.core.errors import UserError
from clipmill.core.forecasts import Forecast, ForecastFigure
from clipmill.core.manifests import (
    IndexManifest,
    ModelIdentity,
)
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings, read_manifest
from clipmill.datasets.shards import read_shards
from clipmill.estimate.actual import actual_embedding, actual_index
from clipmill.estimate.embedding_bytes import ASSUMED, measured_columns, thumbnail_bytes
from clipmill.estimate.estimate import Estimate, estimate
from clipmill.estimate.figure import Figure
from clipmill.estimate.machine import Machine
from clipmill.estimate.models import cost_of_manifest, cost_of_model
from clipmill.estimate.rates import calibrated, published
from clipmill.estimate.workload import Workload
from clipmill.index.build.layout import TRAINED_FILE
from clipmill.index.build.plan import plan_index
from clipmill.source.input_file import InputFile
from clipmill.storage import Location
from clipmill.versions.base import Base
from clipmill.versions.version import read_version

_IMAGE_PIXELS = 500 * 375


@dataclass(frozen=True)
class PlannedRun:
    """What a run is about to do: ``new`` files are encoded of all ``files``; ``index`` is null where none is made."""

    model: ModelIdentity
    files: Sequence[InputFile]
    new: Sequence[InputFile]
    limit: int | None
    index: IndexSettings | None
    machine: Machine


def make_forecast(planned_run: PlannedRun, base: Base | None) -> Forecast:
    """Figures of `clipmill plan` for this run, calibrated by the version that it grows from: time and bytes of what is new,
    bytes of the whole index, and the time of an index of which nothing is there yet.

    A version for which nothing was encoded tells no rates: then it is the one before that. Where nothing is known there
    are no figures.
    """
    name, earlier = _calibrating(base, planned_run.model)
    try:
        new = _estimate(planned_run, planned_run.new, earlier) if planned_run.new else None
        whole = _estimate(planned_run, planned_run.files, earlier)
    except UserError:
        return Forecast(basis="nothing is known yet of what this model takes on these machines", figures=[])
    figures = [] if new is None else [new.figure("embed_seconds"), new.figure("embedding_bytes")]
    if _index_is_planned(planned_run):
        figures += [whole.figure("index_seconds")] if len(planned_run.new) == len(planned_run.files) else []
        figures.append(whole.figure("index_bytes"))
    basis = f"as version {name} took" if name else "by published figures and one caption per image"
    return Forecast(basis=basis, figures=[_expected(figure) for figure in figures])


def beside(forecast: Forecast, new: Embeddings | None, index: Location | None) -> Forecast:
    """The same forecast with actual figures: ``new`` is the dataset of what was encoded, ``index`` where the version's lies.
    The time that a run took which was killed in between is not known."""
    actual = actual_embedding(new.manifest, new.shards) if new else {}
    if index is not None:
        manifest = read_manifest(index, IndexManifest)
        trained = index / TRAINED_FILE
        sizes = [file.bytes for file in read_shards(index, manifest.shards_sha256)]
        actual |= actual_index(manifest, sum(sizes) + trained.filesystem.get_file_info(trained.path).size)
    figures = [one.model_copy(update={"actual": actual.get(one.name)}) for one in forecast.figures]
    return forecast.model_copy(update={"figures": figures})


def _calibrating(base: Base | None, model: ModelIdentity) -> tuple[str | None, Embeddings | None]:
    """The newest version, from the base back, for which rows were encoded with a model of this name."""
    if base is None:
        return None, None
    version, dataset = base.version, base.embeddings
    while not version.rows_encoded and version.base is not None:
        try:
            version = read_version(base.place, version.base)
            dataset = Embeddings.open((base.place.version(version.name) / "embeddings").uri)
        except UserError:  # it was pruned
            return None, None
    known = dataset.manifest.model
    if not version.rows_encoded or known is None or known.name != model.name:
        return None, None
    return version.name, dataset


def _estimate(planned_run: PlannedRun, files: Sequence[InputFile], earlier: Embeddings | None) -> Estimate:
    """Of embedding these files and indexing them."""
    rows = max(1, sum(file.rows for file in files))
    workload = Workload(
        min(rows, planned_run.limit or rows),
        earlier.manifest.counts.captions / max(1, earlier.manifest.counts.rows) if earlier else 1.0,
        sum(file.size for file in files) // rows,
        _IMAGE_PIXELS,
    )
    columns = measured_columns(earlier.manifest, earlier.shards, thumbnail_bytes(earlier)) if earlier else ASSUMED
    machine = _machine(planned_run.machine, earlier)
    if earlier:
        cost = cost_of_manifest(earlier.manifest)
        rates = calibrated(earlier.manifest, cost, workload, machine)
    else:
        cost = cost_of_model(planned_run.model.name)
        rates = published(cost, workload, machine)
    settings = planned_run.index or IndexSettings(embeddings="", output="")
    images = max(1, round(workload.rows * columns.images_a_row))
    index = plan_index(images, cost.dimension, settings.memory, settings.target_recall, shards=settings.shards)
    return estimate(workload, cost, machine, rates, columns, index, None)


def _machine(now: Machine, earlier: Embeddings | None) -> Machine:
    """What the cluster has, or had then where it has still to grow. Raises UserError where neither is known."""
    hardware = earlier.manifest.hardware if earlier else {}
    then = Machine("as before", float(hardware.get("cpus", 0)), int(hardware.get("gpus", 0)))
    machine = then if not now.cores or (then.gpus and not now.gpus) else now
    if not machine.cores:
        raise UserError("the cluster has no cores yet")
    return machine


def _index_is_planned(planned_run: PlannedRun) -> bool:
    """Whether `clipmill plan` knows of such an index: of the images, and chosen by the planner."""
    return (
        planned_run.index is not None and planned_run.index.gallery == "images" and planned_run.index.factory == "auto"
    )


def _expected(figure: Figure) -> ForecastFigure:
    return ForecastFigure(name=figure.name, planned=figure.value, low=figure.low, high=figure.high, unit=figure.unit)
