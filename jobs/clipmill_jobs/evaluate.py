"""clipmill evaluate: embeddings, and optionally their index, to a report."""

from pathlib import Path

import click

from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.settings import ClusterSettings, EvaluateSettings, TextEvaluationSettings
from clipmill.runs.stages import evaluate_stage
from clipmill.runs.text_stages import evaluate_texts_stage
from clipmill_jobs.command import Job, of_current, print_json
from clipmill_jobs.options import cache_limit_option, cluster_options, settings_options
from clipmill_jobs.reporting import current


@click.command("evaluate", cls=Job, doing="reading the embeddings' manifest")
@settings_options(
    settings=EvaluateSettings,
    texts=TextEvaluationSettings,
    instead="texts",
    help_of={
        "output": "Folder for report.html, report.json and report.csv; local or s3://.",
        "embeddings": "Embeddings dataset to evaluate; local or s3://. This, or --texts.",
    },
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=DEFAULT_CACHE,
    show_default=True,
    help="Folder of local copies of what lies on S3, and of the vectors of prompts.",
)
@cache_limit_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@cluster_options
def command(
    settings: EvaluateSettings | None,
    texts: TextEvaluationSettings | None,
    cluster: ClusterSettings,
    cache: Path,
    as_json: bool,
) -> None:
    """Measure what embeddings, or texts about pictures, are worth, and write one page that says so.

    Two layers are kept apart: the model's quality, with the dataset's own captions and labels as truth (retrieval both
    ways, zero-shot classification, alignment of the towers), and the index's fidelity, with exact search as truth. What
    the dataset does not allow to be measured is named in the report, with the reason. Run it again after an
    interruption: it continues, and what was measured is not measured again.

    Of more queries than --query-sample a sample is ranked, against the whole gallery: the report says so beside every figure,
    and intervals cover the draw. Where a Ray cluster is named, its tasks rank; else this machine does.

    With --texts, in place of --embeddings, what `clipmill caption` or `clipmill ask` wrote is measured: overlap with
    references (CIDEr-D, BLEU, ROUGE-L), fit to the pictures (CLIPScore), diversity, and right answers.

    \b
    Examples:
      clipmill evaluate --embeddings embeddings/ --index index/ --output report/ --slice-by source --slice-by year
      clipmill evaluate --embeddings s3://bucket/b32/ --output report/ --label-column category --templates imagenet
      clipmill evaluate --texts captions/ --output report/ --reference-column caption
    """
    from clipmill.report.terminal import report_lines

    if texts is not None:
        made, output = evaluate_texts_stage(texts, current()), texts.output
    else:
        assert settings is not None  # one of both is built
        settings = of_current(settings)
        made, output = evaluate_stage(settings, current(), cache, cluster=cluster), settings.output
    report, already = made.manifest, made.already
    if as_json:
        document = report.model_dump(mode="json", exclude={"pictures"})
        print_json({"output": output, "already_complete": already, **document})
        return
    if already:
        click.echo(f"{output} is already complete")
    for line in report_lines(report):
        click.echo(line)
    click.echo(f"{output.rstrip('/')}/report.html")


if __name__ == "__main__":
    command()
