"""clipmill caption: pictures to captions or alternative texts."""

import click

from clipmill.core.settings import CaptionSettings, ClusterSettings
from clipmill.runs.text_stages import words_stage
from clipmill_jobs.command import Job
from clipmill_jobs.options import settings_options
from clipmill_jobs.reporting import current
from clipmill_jobs.writing import print_texts


@click.command("caption", cls=Job, doing="reading the list of input files")
@settings_options(settings=CaptionSettings, cluster=ClusterSettings, exclude=("num_gpu_actors",))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(settings: CaptionSettings, cluster: ClusterSettings, as_json: bool) -> None:
    """Write captions, or alternative texts, for pictures.

    Run it again after an interruption: it continues. Every picture ends with its texts or with a reject and its reason.

    \b
    Examples:
      clipmill caption --input scenes/ --output captions/
      clipmill caption --input photos/ --output captions/ --model transformers:Salesforce/blip-image-captioning-base
      clipmill caption --input photos/ --output alt/ --model transformers:HuggingFaceTB/SmolVLM-256M-Instruct --style alt
      clipmill caption --input photos/ --output captions/ --model models/llava/ --candidates 3 --temperature 0.7
    """
    made = words_stage(settings, cluster, current())
    print_texts(made.manifest, settings.output, already=made.already, as_json=as_json)


if __name__ == "__main__":
    command()
