"""clipmill evaluate: embeddings, and optionally their index, to a report."""

from pathlib import Path
from typing import Any

import click

from clipmill.core.schemas import Foresight, ModelIdentity
from clipmill.core.settings import EvaluateSettings, build
from clipmill.evaluate.classification.zero_shot import Encode
from clipmill.index.search.open import DEFAULT_CACHE
from clipmill.report.document import Report
from clipmill.report.evaluation import evaluate
from clipmill.report.terminal import report_lines
from clipmill.versions.pointer import with_current
from clipmill_jobs.command import Job, print_json, progress


@click.command("evaluate", cls=Job)
@click.option("--embeddings", required=True, help="Embeddings dataset to evaluate; local or s3://.")
@click.option("--output", required=True, help="Folder for report.html, report.json and report.csv.")
@click.option("--index", help="An index over these embeddings, to compare with exact search.")
@click.option("--label-column", help="Column of class names for zero-shot classification. Default: label, if there.")
@click.option(
    "--class-names",
    metavar="imagenet|FILE",
    help="Names for the labels: imagenet, a name a line, JSON label to name, or CSV of label, name. Default: the labels.",
)
@click.option(
    "--templates",
    default="simple",
    show_default=True,
    metavar="NAME|FILE",
    help="Prompts for class names: imagenet (80), simple (7), cifar10 (18), plain, or a file with one a line, {} in it.",
)
@click.option(
    "--pretrained", help="Where the weights of the embeddings' model are now. Default: as their manifest says."
)
@click.option(
    "--slice-by",
    multiple=True,
    metavar="COLUMN",
    help="Part every figure by a kept column. May be given several times.",
)
@click.option(
    "--robustness",
    multiple=True,
    metavar="URI",
    help="Embeddings of the same input that `clipmill embed --corrupt` made. May be given several times.",
)
@click.option(
    "--perturb-text",
    is_flag=True,
    help="Encode captions and class prompts again, in other case and with typing errors.",
)
@click.option(
    "--probe/--no-probe", default=True, help="Train a linear probe, few-shot classifiers and k-NN.  [default: probe]"
)
@click.option(
    "--probe-train", metavar="URI", help="Embeddings to train them on. Default: a part of the evaluated embeddings."
)
@click.option("--bootstrap-samples", type=int, default=1000, show_default=True, help="Resamples for the intervals.")
@click.option("--fidelity-queries", type=int, default=1000, show_default=True, help="Queries that the index is asked.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=DEFAULT_CACHE,
    show_default=True,
    help="For S3, and for the vectors of prompts.",
)
@click.option("--overwrite", is_flag=True, help="Replace a finished report, once the new one is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(cache: Path, as_json: bool, **options: Any) -> None:
    """Measure what embeddings are worth, and write one page that says so.

    Two layers are kept apart: the model's quality, with the dataset's own captions and labels as truth (retrieval both
    ways, zero-shot classification, alignment of the towers), and the index's fidelity, with exact search as truth. What
    the dataset does not allow to be measured is named in the report, with the reason. Run it again after an
    interruption: it continues, and what was measured is not measured again.

    \b
    Examples:
      clipmill evaluate --embeddings embeddings/ --index index/ --output report/ --slice-by source --slice-by year
      clipmill evaluate --embeddings s3://bucket/b32/ --output report/ --label-column category --templates imagenet
    """
    settings = build(EvaluateSettings, with_current(options))
    report, already = evaluate_stage(settings, cache)
    if as_json:
        document = report.model_dump(mode="json", exclude={"pictures"})
        print_json({"output": settings.output, "already_complete": already, **document})
        return
    if already:
        click.echo(f"{settings.output} is already complete")
    for line in report_lines(report):
        click.echo(line)
    click.echo(f"{settings.output.rstrip('/')}/report.html")


def evaluate_stage(
    settings: EvaluateSettings, cache: Path = DEFAULT_CACHE, plan: Foresight | None = None
) -> tuple[Report, bool]:
    """The report, and whether it was there already; progress goes to stderr. ``plan`` is told in it as it is."""

    def load_encoder(identity: ModelIdentity) -> Encode:
        return _text_encoder(identity, settings.pretrained)

    return evaluate(settings, load_encoder, cache, lambda total, name: progress(total, "queries", name), plan)


def _text_encoder(identity: ModelIdentity, pretrained: str | None) -> Encode:
    """The text tower that made the embeddings. Raises UserError when only another model is to be had."""
    from clipmill.encoders.model import load_model_of

    return load_model_of(identity, None, pretrained, "the embeddings").encode_texts


if __name__ == "__main__":
    command()
