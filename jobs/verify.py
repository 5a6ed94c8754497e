"""clipmill verify: proof from the files that a dataset is whole."""

import json

import click

from jobs.command import Job, print_json, progress
from pipeline import storage
from pipeline.datasets import MANIFEST
from pipeline.errors import RunFailed, UserError
from pipeline.verify.embeddings import verify_embeddings
from pipeline.verify.index import verify_index

VERIFIERS = {"embeddings": verify_embeddings, "index": verify_index}


@click.command("verify", cls=Job)
@click.argument("uri")
@click.option(
    "--quick", is_flag=True, help="Sizes, footers and stored checksums only: seconds, to run after every job."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(uri: str, quick: bool, as_json: bool) -> None:
    """Check a dataset of embeddings or an index: counts, checksums, identities.

    Exit code 0 when it is whole, 1 when anything is missing, extra, twice or altered.

    \b
    Example:
      clipmill verify embeddings/
    """
    kind = _kind_of(uri)
    if kind not in VERIFIERS:
        raise UserError(f"{uri} is a dataset of kind {kind!r}, which verify does not know")
    with progress(None, "B", "verify") as on_progress:
        findings = VERIFIERS[kind](uri, quick=quick, on_progress=on_progress)
    if as_json:
        print_json(findings.as_dict())
    else:
        for note in findings.notes:
            click.echo(f"note: {note}")
        for fault in findings.faults:
            click.echo(f"fault: {fault}")
        if findings.hidden:
            click.echo(f"fault: and {findings.hidden} more")
        seen = ", ".join(f"{number:,} {what}" for what, number in findings.checked.items())
        click.echo(f"{uri}: {'whole' if findings.whole else 'NOT WHOLE'} ({seen})")
    if not findings.whole:
        raise RunFailed(f"{uri} is not whole: {len(findings.faults) + findings.hidden} faults; make the dataset again")


def _kind_of(uri: str) -> str:
    location = storage.resolve(uri)
    try:
        return str(json.loads(storage.read_bytes(location / MANIFEST))["kind"])
    except FileNotFoundError:
        raise UserError(f"{location} has no {MANIFEST}, so it is not a finished dataset of clipmill") from None
    except (ValueError, KeyError, TypeError):
        raise RunFailed(f"{location / MANIFEST} is damaged: it is not a manifest of clipmill") from None


if __name__ == "__main__":
    command()
