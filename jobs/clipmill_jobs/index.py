"""clipmill index: embeddings to a sharded, tuned FAISS index."""

from typing import Any

import click
from click.core import ParameterSource

from clipmill.core.errors import BarMissed, UserError
from clipmill.core.schemas import IndexManifest, Interval
from clipmill.core.settings import ClusterSettings, IndexSettings, build
from clipmill.index.build.build import Build, finished, make_build
from clipmill.index.build.merge import finished_merge, make_merge, merge_index
from clipmill.index.build.plan import Candidate
from clipmill.versions.pointer import with_current
from clipmill_jobs.command import Job, cluster_options, print_json, say, split_options


@click.command("index", cls=Job)
@click.option("--embeddings", help="Embeddings dataset to index; local or s3://. Needed unless --merge is given.")
@click.option("--merge", metavar="INDEX", help="Instead of building: make one shard of the shards of this index.")
@click.option("--output", required=True, help="Where the index is published.")
@click.option("--gallery", type=click.Choice(["images", "captions"]), default="images", show_default=True)
@click.option("--factory", default="auto", show_default=True, help="A FAISS factory string instead of a planned index.")
@click.option(
    "--foreign",
    metavar="FILE",
    help="Take over this FAISS file, made elsewhere over the same vectors in the same order. Only from a source you trust.",
)
@click.option("--shards", default="auto", show_default=True, help="Number of shards, each built by a task of its own.")
@click.option("--memory", default="4GiB", show_default=True, help="What search may keep resident: 24MB, 4GiB.")
@click.option(
    "--target-recall",
    type=float,
    default=0.95,
    show_default=True,
    help="k-recall@k to tune for. When given and missed, the exit code is 3.",
)
@click.option("--tuning-queries", type=int, default=2000, show_default=True, help="To tune on; as many others confirm.")
@click.option(
    "-k", "k", type=int, default=10, show_default=True, help="Results a query that the recall is measured on."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace a finished index, once the new one is complete.")
@click.option(
    "--explain",
    is_flag=True,
    help="Print the indices considered, their bytes, what building them takes, and why this one; then stop.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest (with --explain: the plan) as JSON.")
@cluster_options
@click.pass_context
def command(context: click.Context, merge: str | None, explain: bool, as_json: bool, **options: Any) -> None:
    """Build a FAISS index that keeps a promised recall on text queries within the memory there is.

    Small galleries get an exact index. Others get compact codes, searched list by list and re-ranked exactly from the
    stored vectors; how many lists and how deep is tuned on captions until the target recall holds, and confirmed on
    captions that were not tuned on. What was measured is in manifest.json. Run it again after an interruption: it
    continues, without training again or filling a shard twice.

    --foreign takes a FAISS file of another tool in place of training and adding: embeddings come from `clipmill import
    vectors`, and it is tuned and checked like any other.

    --merge makes of a finished index another with all vectors in one FAISS file, with neither training nor embeddings.

    \b
    Examples:
      clipmill index --embeddings embeddings/ --output index/
      clipmill index --embeddings s3://bucket/laion-b32/ --output s3://bucket/laion-index/ \\
                     --memory 24GiB --target-recall 0.97
      clipmill index --merge index/ --output merged/
      clipmill index --foreign image.index --embeddings imported/ --output index/
    """
    if merge is not None:
        _refuse_beside_merge(context)
        manifest, already = merge_stage(merge, options["output"], overwrite=options["overwrite"])
        _tell(manifest, options["output"], already=already, as_json=as_json)
        return
    if options["embeddings"] is None:
        raise UserError("give --embeddings URI to build an index, or --merge INDEX to merge the shards of one")
    cluster_values, values = split_options(options)
    settings = build(IndexSettings, with_current(values))
    cluster_settings = build(ClusterSettings, cluster_values)
    if explain:
        _print_plan(make_build(settings), as_json)
        return
    manifest, already = index_stage(settings, cluster_settings)
    _tell(manifest, settings.output, already=already, as_json=as_json)
    asked = context.get_parameter_source("target_recall") == ParameterSource.COMMANDLINE
    if asked and not manifest.target_met:
        raise BarMissed(
            f"the index is published, but its {manifest.k}-recall@{manifest.k} of "
            f"{_interval(_honest_recall(manifest))} misses --target-recall {settings.target_recall:g}; give more "
            "--memory for finer codes, more --tuning-queries for a narrower interval, or --factory Flat"
        )


def index_stage(settings: IndexSettings, cluster_settings: ClusterSettings) -> tuple[IndexManifest, bool]:
    """The manifest of the index, and whether it was there already; progress goes to stderr."""
    return build_stage(make_build(settings), cluster_settings)


def build_stage(work: Build, cluster_settings: ClusterSettings) -> tuple[IndexManifest, bool]:
    """The manifest of what this build makes, and whether it was there already; progress goes to stderr."""
    from clipmill.engine.cluster import connect
    from clipmill.engine.index import build_index

    manifest = finished(work)
    if manifest is not None:
        work.staging.drop_leftovers()
        return manifest, True
    if not work.settings.overwrite:
        work.staging.refuse_others()  # before a cluster is started for nothing
    with connect(cluster_settings) as cluster:
        return build_index(work, cluster, cluster_settings, _on_stage), False


def merge_stage(index: str, output: str, *, overwrite: bool) -> tuple[IndexManifest, bool]:
    """The manifest of the merged index, and whether it was there already; progress goes to stderr."""
    work = make_merge(index, output, overwrite=overwrite)
    manifest = finished_merge(work)
    if manifest is not None:
        work.staging.drop_leftovers()
        return manifest, True
    return merge_index(work, _on_stage), False


def _on_stage(said: str) -> None:
    say("index", said)


def _refuse_beside_merge(context: click.Context) -> None:
    """A merged index is as it was built and tuned. Raises UserError for options that would have it otherwise."""
    if context.params["embeddings"] is not None:
        raise UserError("--merge cannot be combined with --embeddings: it merges an index that is there; leave one out")
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in ("merge", "output", "overwrite", "as_json", "log_json")
        and context.get_parameter_source(str(parameter.name)) == ParameterSource.COMMANDLINE
    ]
    if given:
        raise UserError(f"--merge keeps an index as it was built and tuned; leave out {', '.join(given)}")


def _print_plan(work: Build, as_json: bool) -> None:
    plan = work.plan
    if as_json:
        considered = [_candidate(candidate) for candidate in plan.considered]
        print_json(
            {
                "n": work.gallery.n,
                "dimension": work.gallery.dimension,
                "chosen": _candidate(plan.chosen),
                "why": plan.why,
                "shards": plan.shards,
                "training_rows": plan.training_rows,
                "considered": considered,
            }
        )
        return
    click.echo(f"{work.gallery.n:,} {work.gallery.part} of {work.gallery.dimension} dimensions in {plan.shards} shards")
    for candidate in plan.considered:
        mark = "→" if candidate == plan.chosen else " "
        size = f"{candidate.footprint.total:>16,} bytes" if candidate.footprint else "   counted after building"
        click.echo(f"{mark} {candidate.factory:26} {size}  {_seconds(candidate)}  {candidate.remark}")
    click.echo(f"{plan.factory}: {plan.why}")
    click.echo("Bytes are what search keeps resident; vectors for re-ranking stay on disk.")
    click.echo("Core-seconds are an estimate for training and adding; exact search and tuning come on top.")


def _seconds(candidate: Candidate) -> str:
    """To two digits: the estimate is no better."""
    if candidate.build_seconds is None:
        return "   build not estimated"
    seconds = max(1, round(float(f"{candidate.build_seconds:.2g}")))
    return f"about {seconds:>7,} core-seconds"


def _candidate(candidate: Candidate) -> dict[str, Any]:
    footprint = candidate.footprint.as_dict() if candidate.footprint else None
    return {
        "factory": candidate.factory,
        "remark": candidate.remark,
        "resident_bytes": footprint,
        "build_core_seconds": candidate.build_seconds,
    }


def _tell(manifest: IndexManifest, uri: str, *, already: bool, as_json: bool) -> None:
    if as_json:
        print_json({"output": uri, "already_complete": already, **manifest.model_dump(mode="json")})
    else:
        _print_result(manifest, uri, already=already)


def _print_result(manifest: IndexManifest, uri: str, *, already: bool) -> None:
    point = manifest.operating_point
    kind = "exact search" if manifest.exact else f"nprobe {point.nprobe}, re-rank {point.rerank}"
    if already:
        click.echo(f"{uri} is already complete")
    click.echo(
        f"{manifest.factory} over {manifest.n:,} {manifest.gallery} in {manifest.shards} shards, {kind}\n"
        f"{manifest.bytes_per_vector:,.1f} bytes a vector resident ({manifest.memory['total']:,} in all)\n"
        f"{manifest.k}-recall@{manifest.k} {_interval(_honest_recall(manifest))} on {manifest.query_kind}"
        f"{' that it was not tuned on' if point.confirmed_recall else ''}, "
        f"{point.milliseconds_per_query:.3f} ms a query on one thread\n"
        f"{uri}"
    )


def _honest_recall(manifest: IndexManifest) -> Interval:
    """The recall on unseen queries where there were enough for it, else on those tuned on."""
    return manifest.operating_point.confirmed_recall or manifest.operating_point.recall


def _interval(recall: Interval) -> str:
    return f"{recall.value:.4f} [{recall.low:.4f}, {recall.high:.4f}]"


if __name__ == "__main__":
    command()
