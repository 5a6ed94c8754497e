"""The command `clipmill`: finds a job by name and loads only that one."""

import importlib
import os
import sys
from typing import Any

import click

from clipmill.core.startup import prepare_process
from clipmill_jobs.command import Group

JOBS = {
    "demo": "Sample data, embed, index, evaluate, search: everything, with no network.",
    "sample": "Render scenes with captions and labels as source Parquet.",
    "import": "Bring COCO, Flickr8k, folders, CSV, WebDataset or vectors into our formats.",
    "embed": "Embed images and captions with a CLIP model.",
    "index": "Build a sharded, tuned FAISS index over embeddings.",
    "search": "Search an index by text, image, id or a batch of vectors.",
    "explore": "Search on a page in the browser, on this machine.",
    "serve": "Answer searches over HTTP, from what `run` publishes, on Ray.",
    "dedup": "Find near-duplicates among images or captions.",
    "filter": "Keep rows by clip score, prompts, near-duplicates and SQL conditions.",
    "caption": "Write captions or alternative texts for pictures.",
    "ask": "Answer a question about every picture.",
    "recaption": "Keep those of captions and written texts that are true of their pictures.",
    "evaluate": "Measure retrieval, zero-shot classification and index fidelity; write a report.",
    "compare": "Compare reports: what got better and worse, and which queries flipped.",
    "train": "Train or fine-tune a CLIP model on image/caption Parquet.",
    "run": "Make a folder of pictures searchable: embed, index, report on what is new, and publish it.",
    "versions": "List the versions that were published.",
    "rollback": "Let readers see an earlier version again.",
    "prune": "Remove old versions.",
    "remove": "Take pictures and captions down from the next version on.",
    "status": "Say how the work towards an output stands, while it goes on or after.",
    "export": "Write embeddings as a Lance dataset, or add them to an Iceberg table.",
    "plan": "Say what a run will take: time, cores, bytes, memory and money.",
    "simulate": "Say how a run of any size would go, stage by stage, and what breaks first.",
    "models": "List models that know photographs, and download one.",
    "cache": "List or delete local copies of what lies on S3.",
    "doctor": "Say what this machine has, and what to do where something is missing.",
    "verify": "Prove from the files that a dataset is whole.",
}


class JobGroup(Group):
    """Loads a job's module when it is asked for, so that `clipmill --help` does not import torch."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As of every click group, without colours where NO_COLOR says so (https://no-color.org), and not on Windows."""
        if sys.platform == "win32":
            raise click.UsageError(
                "clipmill runs on Linux and macOS; on Windows use it inside of WSL: type: wsl --install"
            )
        if os.environ.get("NO_COLOR"):
            extra["color"] = False
        return super().make_context(info_name, args, parent, **extra)

    def list_commands(self, context: click.Context) -> list[str]:
        """The names of all jobs, in the order in which they are used."""
        return list(JOBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The job of this name; None where there is none."""
        if name not in JOBS:
            return None
        prepare_process()  # before the job imports what it needs
        module = importlib.import_module(f"clipmill_jobs.{'import_' if name == 'import' else name}")
        command: click.Command = module.command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the jobs, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(JOBS.items()))


@click.group(cls=JobGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="clipmill")
def main() -> None:
    """clipmill: image/caption Parquet in; CLIP embeddings, a FAISS index and a retrieval report out.

    \b
    Start here:  clipmill run photos/     or without pictures of your own:  clipmill demo
    """


if __name__ == "__main__":
    main(prog_name="clipmill")
