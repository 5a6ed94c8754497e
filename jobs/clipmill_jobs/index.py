"""clipmill index: embeddings to a sharded, tuned FAISS index."""

from typing import TYPE_CHECKING, Any

import click

from clipmill.core.errors import BarMissed
from clipmill.core.manifests import queries_in_words
from clipmill.core.settings import ClusterSettings, IndexSettings
from clipmill.runs.stages import index_stage
from clipmill_jobs.command import Job, of_current, print_json
from clipmill_jobs.options import cluster_options, settings_options
from clipmill_jobs.reporting import current

if TYPE_CHECKING:
    from clipmill.core.manifests import IndexManifest, Interval
    from clipmill.index.build.build import Build
    from clipmill.index.build.plan import Candidate


@click.command("index", cls=Job, doing="reading the embeddings' manifest")
@settings_options(settings=IndexSettings)
@click.option(
    "--explain",
    is_flag=True,
    help="Print the indices considered, their bytes, what building them takes, and why this one; then stop.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest (with --explain: the plan) as JSON.")
@cluster_options
def command(settings: IndexSettings, cluster: ClusterSettings, explain: bool, as_json: bool) -> None:
    """Build a FAISS index that keeps a promised recall on text queries within the memory there is.

    Small galleries get an exact index. Others get compact codes, searched list by list and re-ranked exactly from the
    stored vectors; how many lists and how deep is tuned on captions until the target recall holds, and confirmed on
    captions that were not tuned on. What was measured is in manifest.json. Run it again after an interruption: it
    continues, without training again or filling a shard twice.

    --foreign takes a FAISS file of another tool in place of training and adding: embeddings come from `clipmill import
    vectors`, and it is tuned and checked like any other.

    \b
    Examples:
      clipmill index --embeddings embeddings/ --output index/
      clipmill index --embeddings s3://bucket/laion-b32/ --output s3://bucket/laion-index/ \\
                     --memory 24GiB --target-recall 0.97
      clipmill index --foreign image.index --embeddings imported/ --output index/
    """
    settings = of_current(settings)
    if explain:
        from clipmill.index.build.build import make_build

        _print_plan(make_build(settings), as_json)
        return
    from clipmill.index.build.finish import warn_of_queries

    made = index_stage(settings, cluster, current())
    manifest, already = made.manifest, made.already
    _tell(manifest, settings.output, already=already, as_json=as_json)
    asked = "target_recall" in settings.model_fields_set
    if already:
        warn_of_queries(manifest)
    if asked and manifest.target_met is False:
        raise BarMissed(
            f"the index is published, but its {manifest.k}-recall@{manifest.k} of {_interval(manifest.measured_recall)} "
            f"on {manifest.asked_with} misses --target-recall {settings.target_recall:g}; {_advice(manifest)}"
        )


def _advice(manifest: "IndexManifest") -> str:
    """What can help an index that misses its target."""
    if manifest.configuration["factory"] != "auto" or manifest.configuration.get("foreign_sha256"):
        return "leave out --factory and --foreign to have a kind chosen that reaches it"
    from clipmill.index.build.footprint import flat_footprint

    if manifest.rerank_vectors.kind == "none":
        return "give --rerank-vectors int8 or float16, with which results are re-ranked, or more --memory"
    exact = flat_footprint(manifest.n, manifest.dimension).total
    return f"give --memory {exact} or more for exact search, or more --tuning-queries for a narrower interval"


def _print_plan(work: "Build", as_json: bool) -> None:
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
                "where_it_misses_the_target": [_candidate(later.chosen) for later in work.plans[1:]],
            }
        )
        return
    click.echo(f"{work.gallery.n:,} {work.gallery.part} of {work.gallery.dimension} dimensions in {plan.shards} shards")
    for candidate in plan.considered:
        mark = "→" if candidate == plan.chosen else " "
        size = f"{candidate.footprint.total:>16,} bytes" if candidate.footprint else "   counted after building"
        click.echo(f"{mark} {candidate.factory:26} {size}  {_seconds(candidate)}  {candidate.remark}")
    click.echo(f"{plan.factory}: {plan.why}")
    for later in work.plans[1:]:
        click.echo(f"where that misses the target: {later.factory}, {later.chosen.remark}")
    kept = (
        "there are no vectors for re-ranking" if work.rerank_kind == "none" else "vectors for re-ranking stay on disk"
    )
    click.echo(f"Bytes are what search keeps resident; {kept}.")
    click.echo("Core-seconds are an estimate for training and adding; exact search and tuning come on top.")


def _seconds(candidate: "Candidate") -> str:
    """To two digits: the estimate is no better."""
    if candidate.build_seconds is None:
        return "   build not estimated"
    seconds = max(1, round(float(f"{candidate.build_seconds:.2g}")))
    return f"about {seconds:>7,} core-seconds"


def _candidate(candidate: "Candidate") -> dict[str, Any]:
    footprint = candidate.footprint.as_dict() if candidate.footprint else None
    return {
        "factory": candidate.factory,
        "remark": candidate.remark,
        "resident_bytes": footprint,
        "build_core_seconds": candidate.build_seconds,
    }


def _tell(manifest: "IndexManifest", uri: str, *, already: bool, as_json: bool) -> None:
    if as_json:
        print_json({"output": uri, "already_complete": already, **manifest.model_dump(mode="json")})
    else:
        _print_result(manifest, uri, already=already)


def _print_result(manifest: "IndexManifest", uri: str, *, already: bool) -> None:
    point = manifest.operating_point
    kind = "exact search" if manifest.exact else f"nprobe {point.nprobe}, re-rank {point.rerank}"
    if already:
        click.echo(f"{uri} is already complete")
    click.echo(
        f"{manifest.factory} over {manifest.n:,} {manifest.gallery} in {manifest.shards} shards, {kind}\n"
        f"{manifest.bytes_per_vector:,.1f} bytes per vector resident ({manifest.memory['total']:,} in all)\n"
        f"{manifest.k}-recall@{manifest.k} {_interval(manifest.measured_recall)} on {manifest.asked_with}"
        f"{', which it was not tuned on' if point.confirmed_recall else ''}, "
        f"{point.milliseconds_per_query:.3f} ms per query on one thread"
    )
    stored = manifest.rerank_vectors
    if stored.kind != "float16":
        each = (
            f"{manifest.dimension:,} bytes each on disk"
            if stored.kind == "int8"
            else "results have the order of their codes"
        )
        lost = f", with which {stored.recall.value:.4f} of the exact results can be found" if stored.recall else ""
        click.echo(f"vectors for re-ranking: {stored.kind}, {each}{lost}")
    for tried in manifest.tried:
        click.echo(
            f"{tried.factory} was built first, with {tried.bytes:,} bytes resident: {tried.k}-recall@{tried.k} "
            f"{_interval(tried.recall)} on {queries_in_words(tried.query_kind, manifest.gallery)}"
        )
    for promise in manifest.promises:
        point, missed = promise.operating_point, "" if promise.target_met else ", which misses the target"
        click.echo(
            f"{promise.k}-recall@{promise.k} {_interval(promise.measured_recall)}{missed} on "
            f"{queries_in_words(promise.query_kind, manifest.gallery)}: nprobe {point.nprobe}, re-rank {point.rerank}, "
            f"{point.milliseconds_per_query:.3f} ms"
        )
    click.echo(uri)


def _interval(recall: "Interval") -> str:
    return f"{recall.value:.4f} [{recall.low:.4f}, {recall.high:.4f}]"


if __name__ == "__main__":
    command()
