"""clipmill models: which there are, what they cost, and bringing one to this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipmill.core.errors import UserError
from clipmill_jobs.command import Group, Job, print_json
from clipmill_jobs.reporting import current

if TYPE_CHECKING:
    from clipmill.estimate.catalogue import Known


class _Models(Group):
    """Takes the name of a model for the command that shows it."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As of every click group."""
        if args[0] in self.commands:
            return super().resolve_command(context, args)
        return "show", show, args


@click.group("models", cls=_Models, invoke_without_command=True, context_settings={"ignore_unknown_options": True})
@click.pass_context
def command(context: click.Context) -> None:
    """List models that know photographs: cost, published quality, and whether their weights are on this machine.

    \b
    clipmill models                       those that no other beats in both quality and speed
    clipmill models --all                 all with published figures, the best first
    clipmill models ViT-B-32              the weights of one model
    clipmill models fetch ViT-B-32 --pretrained laion2b_s34b_b79k

    acc1 is zero-shot on ImageNet, t2i R@1 text to image on COCO, both as published by open_clip. Speed is by the operations
    that an image takes. Without a network: fetch with --output elsewhere, bring the folder, and give it as --pretrained.
    """
    if context.invoked_subcommand is None:
        context.invoke(show)


@click.command("models", cls=Job, doing="looking for models")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All models with published figures.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def show(name: str | None = None, everything: bool = False, as_json: bool = False) -> None:
    """List models, or the weights of one.

    \b
    Example:
      clipmill models ViT-B-32
    """
    from clipmill.encoders.names import BUILTIN, BUILTIN_FOLDERS, BUILTIN_SOUND
    from clipmill.estimate.catalogue import known_weights, weights_of, worth_taking
    from clipmill.words.names import BUILTIN_WRITER

    if name in BUILTIN_FOLDERS:
        raise UserError(f"{name} comes with clipmill and knows rendered scenes alone; type: --model {name}")
    known = known_weights()
    if name is not None:
        chosen = weights_of(name, known)
    else:
        chosen = [one for one in known if one.acc1 is not None] if everything else worth_taking(known)
    if as_json:
        print_json([one.as_dict() for one in chosen])
        return
    _print(chosen)
    first = chosen[0]
    click.echo(f"\nclipmill models fetch {first.model} --pretrained {first.pretrained}")
    click.echo(f"clipmill run photos/ --model {first.model} --pretrained {first.pretrained}")
    if name is None:
        writers = f"{BUILTIN_WRITER} writes; --model {BUILTIN_SOUND} hears too"
        click.echo(f"\nWithout --model {BUILTIN} embeds and {writers}. They know rendered scenes alone.")


def _print(chosen: "list[Known]") -> None:
    from clipmill.report.format import size_text
    from clipmill_jobs.tables import print_table

    rows = [
        {
            "model": one.model,
            "pretrained": one.pretrained,
            "acc1": "" if one.acc1 is None else f"{one.acc1:.1%}",
            "t2i R@1": "" if one.t2i is None else f"{one.t2i:.1%}",
            "speed": one.speed,
            "here": "yes" if one.here else "no",
            "tokenizer": "from a hub" if one.tokenizer else "built in",
            "size": "" if one.bytes is None else size_text(one.bytes),
            "dimension": str(one.dimension),
            "GFLOPs": "" if one.gflops is None else f"{one.gflops:.1f}",
        }
        for one in chosen
    ]
    print_table(rows)


@click.command("models fetch", cls=Job, doing="asking the hub")
@click.argument("name")
@click.option("--pretrained", metavar="TAG", help="open_clip tag, or a commit of a model on the hub.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Put everything that is needed into this new folder, to carry it to a machine without network. Default: the cache.",
)
def fetch(name: str, pretrained: str | None, output: Path | None) -> None:
    """Download the weights of a model, and its tokenizer, and prove them by their hashes.

    Run it again after an interruption: files that are here are not fetched again.

    \b
    Examples:
      clipmill models fetch ViT-B-32 --pretrained laion2b_s34b_b79k
      clipmill models fetch transformers:google/siglip2-base-patch16-224 --output siglip2/
    """
    from clipmill.encoders.fetch import fetch_model

    found = fetch_model(name, pretrained, output, lambda what: current().message("models", f"fetching {what}"))
    click.echo(f"{len(found.files):,} files are here; to use them: {found.options}")


command.add_command(fetch, "fetch")

if __name__ == "__main__":
    command()
