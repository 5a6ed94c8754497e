"""clipmill ask: pictures and questions to answers."""

import click

from clipmill.core.settings import AskSettings, ClusterSettings
from clipmill.runs.text_stages import words_stage
from clipmill_jobs.command import Job
from clipmill_jobs.options import settings_options
from clipmill_jobs.reporting import current
from clipmill_jobs.writing import print_texts


@click.command("ask", cls=Job, doing="reading the list of input files")
@settings_options(settings=AskSettings, cluster=ClusterSettings, exclude=("num_gpu_actors",))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(settings: AskSettings, cluster: ClusterSettings, as_json: bool) -> None:
    """Ask a question about every picture.

    With --choices the answer is the most probable of them, by the likelihood of the whole answer: nothing that the model
    writes is parsed. Run it again after an interruption: it continues.

    \b
    Examples:
      clipmill ask --input scenes/ --output answers/ --question "how many objects are there?"
      clipmill ask --input photos/ --output persons/ --model models/llava/ --question "Is a person visible?" --choices yes,no
      clipmill ask --input photos/ --output answers/ --model models/qwen/ --question-column question
    """
    made = words_stage(settings, cluster, current())
    print_texts(made.manifest, settings.output, already=made.already, as_json=as_json)


if __name__ == "__main__":
    command()
