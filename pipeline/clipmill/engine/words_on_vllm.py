"""One run that writes texts with vLLM: units read as rows, rows through the engines, units put together again and committed.

Rows of all units pass through the engines at once, so that these are never empty, and come back in any order. A unit is
committed as soon as the last of its rows is back, by this process: texts are small.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray

from clipmill.core.reporter import Reporter
from clipmill.core.schemas import Reason
from clipmill.core.settings import ClusterSettings
from clipmill.core.text_manifests import TextsManifest
from clipmill.engine import vllm
from clipmill.engine.arrival import ready_to_encode
from clipmill.engine.autoscaler import outlook
from clipmill.engine.cluster import Cluster, cause_of, connect, describe_load
from clipmill.engine.device import no_gpu_for_vllm
from clipmill.engine.embed_stages import UnitSource, unpack
from clipmill.engine.ray_pieces import RayPieces
from clipmill.engine.slice_driver import Committed
from clipmill.engine.slices import SliceRun, cut
from clipmill.engine.stop import StopSwitch
from clipmill.engine.watch import Patience, Reported, signs_to, start_tally
from clipmill.engine.words import job_of
from clipmill.source.input_file import InputFile
from clipmill.source.planned import find_progress
from clipmill.source.reading import KEPT_PREFIX
from clipmill.source.units import Units
from clipmill.stage.stage import Work
from clipmill.stage.units.commit import commit_unit, pack_unit
from clipmill.stage.units.follow import Following
from clipmill.words.engines.vllm import VllmPrompts, reason_of, seed_of
from clipmill.words.examples import Examples
from clipmill.words.folder import folder_here
from clipmill.words.gathered import Gathering, Told
from clipmill.words.loading import FoundGenerator
from clipmill.words.manifest import finish
from clipmill.words.plan import WordsPlan, followed
from clipmill.words.questions import Questions, Row, shown
from clipmill.words.steps import Job, load_beside
from clipmill.words.sums import TextSums

_DOING = "writing about"
_READ_CPUS = 0.25
_NOT_ASKED = "not asked"
_KNOWN: dict[str, Any] = {"row": int, "id": str, "source": str, "has_image_column": bool}
"""Columns of a row that its texts and rejects are written with; what Ray holds them in is not always what JSON takes."""
_READ = (*_KNOWN, "image", "image_path")
_TOLD = "told"


def write_words_on_vllm(
    plan: WordsPlan,
    found: FoundGenerator,
    examples: Examples,
    settings: ClusterSettings,
    reporter: Reporter,
    work: Work,
) -> TextsManifest:
    """Does what is left of the plan. Raises UserError where no GPU is to be had or the model is asked otherwise, RunFailed as
    `clipmill.engine.words.write_words`; what was committed is kept, and the same plan continues from it."""
    VllmPrompts.of(found.identity.name, found.folder)
    progress = find_progress(plan, work)
    reporter.message(plan.name, "connecting to Ray")
    with connect(settings) as cluster:
        try:
            ready = _with_gpus(cluster, settings, plan.name, reporter)
            patience = replace(Patience.of(ready, settings), unplaced=True)
            pieces = RayPieces(ready, settings.stall_timeout, patience=patience)
            following = Following(followed(plan, progress), work, pieces, reporter)
            run = TextSums()
            if len(progress.todo):
                engines = _engines(plan, found, examples, ready, settings)
                graph = VllmGraph(job_of(plan, found, examples, "cuda", 1), engines)
                run = _drive(graph, plan, progress.todo, following, patience)
            files, total, seconds = following.finish()
            run.seconds.update({"compact": seconds})
            return finish(plan, progress, files, total, run, pieces.hardware)
        except ray.exceptions.RayError as error:
            raise cause_of(error, plan.name) from error


def _with_gpus(cluster: Cluster, settings: ClusterSettings, stage: str, reporter: Reporter) -> Cluster:
    """The cluster once it has GPUs. Raises UserError for one that has none and brings none, RunFailed where none comes."""
    if not cluster.gpus and (cluster.own or not outlook().grows):
        raise no_gpu_for_vllm("no node of this cluster has one")
    on_gpus = settings.model_copy(update={"device": "gpu"})
    return ready_to_encode(cluster, on_gpus, lambda text: reporter.message(stage, text), _DOING)[0]


def _engines(
    plan: WordsPlan, found: FoundGenerator, examples: Examples, cluster: Cluster, settings: ClusterSettings
) -> vllm.Engines:
    gpus = int(settings.gpus_per_actor)
    return vllm.Engines(
        found,
        engines=max(1, sum(int(of_node // gpus) for of_node in cluster.gpus_of_nodes)),
        gpus=gpus,
        images=len(examples) + 1,
        precision=plan.settings.precision,
        batch_size=plan.settings.batch_size,
        seed=plan.settings.seed,
    )


def _drive(
    graph: VllmGraph, plan: WordsPlan, todo: Units, following: Following[TextSums], patience: Patience
) -> TextSums:
    """Runs the graph while its commits are followed. Raises RunFailed when it fails for good and when nothing moves."""

    def told(reported: Reported) -> None:
        patience.unplaced = not reported.loaded
        following.committed(reported.units, reported.counts)

    def waiting_for() -> str:
        each = f"{graph.engines.gpus} GPU{'s' if graph.engines.gpus > 1 else ''}"
        return f"{graph.engines.engines} engines of vLLM that ask for {each} each; {describe_load()}"

    run = SliceRun(
        graphs=[graph],
        sums=TextSums,
        units=todo,
        inputs=plan.inputs,
        cut=cut(todo, plan.inputs, encoders=1, on_gpus=True),
        tally=start_tally(),
        patience=patience,
        told=told,
        waiting_for=waiting_for,
    )
    return run.run()


@dataclass(frozen=True)
class VllmGraph:
    """How texts are written about units, whichever they are: one execution asks all engines."""

    job: Job
    engines: vllm.Engines

    doing = f"{_DOING} pictures with vLLM"

    def run(
        self, units: Units, inputs: Sequence[InputFile], tally: Any, switch: StopSwitch, token: str
    ) -> Iterator[Committed[TextSums]]:
        """Asks about all rows, and commits each unit once its last is back. Raises what Ray raises."""
        _set_context(switch)
        source, asking = UnitSource(units, inputs, self.job.columns), self.job.asking
        gathering = Gathering(dict(zip(units.numbers.tolist(), units.rows.tolist(), strict=True)), asking)
        dataset = ray.data.read_datasource(source, override_num_blocks=source.groups, num_cpus=_READ_CPUS)
        dataset = dataset.map_batches(
            partial(rows_of, each=asking.each), batch_size=1, batch_format="pyarrow", num_cpus=_READ_CPUS
        )
        through = vllm.processor(self.engines, partial(asked, job=self.job), partial(answered, job=self.job))
        dataset = through(dataset).map(told, num_cpus=_READ_CPUS)
        tell, loaded = signs_to(tally), False
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            block = cast(pa.Table, batch)
            if not loaded:
                tally.started.remote()
            tell()
            loaded = True
            for unit, text in zip(block.column("unit").to_pylist(), block.column(_TOLD).to_pylist(), strict=True):
                written = gathering.take(unit, Told.from_json(text))
                if written is not None:
                    yield self.commit(unit, written.texts, written.rejected, written.sums)

    def commit(self, unit: int, texts: pa.Table, rejected: pa.Table, sums: TextSums) -> Committed[TextSums]:
        """Makes a unit durable."""
        sums.generated_with[f"cuda {self.engines.precision} vllm"] = sums.rows
        commit_unit(self.job.layout, unit, pack_unit({"texts": texts, "rejected": rejected}, sums))
        return Committed(unit, sums.counts(), sums)


def rows_of(block: pa.Table, *, each: int) -> pa.Table:
    """The rows of a block's units, ``each`` times: with the number of the unit, the place in it, and which time it is."""
    found = []
    for unit, raw, _ in unpack(block):
        at = np.repeat(np.arange(raw.num_rows), each)
        places = {"unit": np.full(len(at), unit), "at": at, "number": np.tile(np.arange(each), raw.num_rows)}
        kept = [name for name in raw.column_names if name in _READ or name.startswith(KEPT_PREFIX)]
        rows = raw.select(kept).take(pa.array(at))
        for name, values in places.items():
            rows = rows.append_column(name, pa.array(values))
        found.append(rows)
    return pa.concat_tables(found)


def asked(row: dict[str, Any], *, job: Job) -> dict[str, Any]:
    """What vLLM is asked about a row; one that it is not asked about has an error, and so passes by. The picture's bytes are
    let go."""
    known = _known(row)
    questions, prompts = _asks(_Key(job))
    found = questions.of(row["at"], row.pop("image"), row)
    if not isinstance(found, Row):
        kept = Told(int(row["at"]), int(row["number"]), known, asked=False, reject=found)
        return {vllm.ERROR: _NOT_ASKED, _TOLD: kept.to_json()}
    if job.asking.choices:
        request = prompts.scoring(found.prepared, job.asking.choices[row["number"]])
    else:
        request = prompts.request(found.prepared, job.asking.decoding, seed_of(job.seed, row["row"], row["number"]))
    return {**request, "asked": found.prompt}


def answered(row: Mapping[str, Any], *, job: Job) -> dict[str, Any]:
    """What vLLM said about a row."""
    known = _known(row)
    _, prompts = _asks(_Key(job))
    of = partial(Told, int(row["at"]), int(row["number"]), known, True, row["asked"])
    try:
        choices = job.asking.choices
        said = prompts.scored(row, choices[row["number"]]) if choices else prompts.said(row)
    except (ValueError, KeyError, TypeError) as error:
        return {"unit": row["unit"], _TOLD: of(None, ("text", Reason.ENGINE_FAILED, str(error))).to_json()}
    return {"unit": row["unit"], _TOLD: of(said).to_json()}


def told(row: dict[str, Any]) -> dict[str, Any]:
    """The unit of a row and what was told of it, of rows with an error too: of those, nothing has been made smaller yet."""
    if row.get(_TOLD):
        return {"unit": row["unit"], _TOLD: row[_TOLD]}
    known = _known(row)
    error = str(row[vllm.ERROR])
    failed = Told(
        int(row["at"]), int(row["number"]), known, True, row["asked"], None, ("text", reason_of(error), error)
    )
    return {"unit": row["unit"], _TOLD: failed.to_json()}


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kind(row[name]) for name, kind in _KNOWN.items()}


@dataclass(frozen=True, eq=False)
class _Key:
    """Keeps one run's way of asking in a process, which prepares many of its rows."""

    job: Job

    def __hash__(self) -> int:
        return hash(self.job.layout.token)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.job.layout.token == self.job.layout.token


@lru_cache(maxsize=1)
def _asks(key: _Key) -> tuple[Questions, VllmPrompts]:
    import torch

    torch.set_num_threads(1)
    job = key.job
    found = job.found
    folder = folder_here(found.identity.name, found.folder, found.settings).path
    prompts = VllmPrompts.of(found.identity.name, folder)
    questions = Questions(
        prompts.prepare,
        job.asking,
        job.max_image_pixels,
        partial(load_beside, job.allowed),
        job.question_column,
        shown(iter(job.examples), job.max_image_pixels),
        job.removed,
    )
    return questions, prompts


def _set_context(switch: StopSwitch) -> None:
    warnings.filterwarnings("ignore", category=ray.util.annotations.RayDeprecationWarning)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [cast(Any, switch)]
    context.max_consecutive_actor_init_deaths = 3
