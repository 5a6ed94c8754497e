"""clipmill verify: proof from the files that a dataset is whole."""

import click

from clipmill.core.errors import RunFailed
from clipmill.core.settings import ClusterSettings
from clipmill.verification.findings import Findings
from clipmill_jobs.command import Job, print_json
from clipmill_jobs.options import cluster_options
from clipmill_jobs.reporting import current


@click.command("verify", cls=Job, doing="reading the manifest")
@click.argument("uri")
@click.option(
    "--quick", is_flag=True, help="Sizes, footers and stored checksums only: seconds, to run after every job."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@cluster_options
def command(uri: str, quick: bool, as_json: bool, cluster: ClusterSettings) -> None:
    """Check embeddings, an index, near-duplicates, a selection or a report; of an output of `clipmill run`, all that
    its current version holds, and that no version which is kept holds what `clipmill remove` took down.

    Counts, checksums, identities, every row and every vector are compared. Where a cluster is named (--address), its tasks
    read the files of embeddings and indices.

    Exit code 0 when it is whole, 1 when anything is missing, extra, twice or altered, 2 when there is no dataset.

    \b
    Examples:
      clipmill verify embeddings/
      clipmill verify s3://bucket/laion-index/ --quick
      clipmill verify s3://bucket/laion/ --address auto
    """
    from clipmill.engine.choose import looking_where_named
    from clipmill.verification.dataset import verify
    from clipmill.verification.taken_down import verify_taken_down
    from clipmill.versions.place import Place
    from clipmill.versions.pointer import datasets_at

    places = datasets_at(uri)
    with looking_where_named(cluster, "verify", current(), quick=quick) as looking:
        found = {place: verify(place, quick=quick, reporter=current(), looking=looking) for place in places}
    taken_down = verify_taken_down(Place.of(uri), current()) if places != [uri] else None
    if taken_down is not None:
        found[uri] = taken_down
    if as_json:
        documents = [findings.as_dict() for findings in found.values()]
        print_json(documents[0] if places == [uri] else documents)
    for place, findings in found.items():
        if not as_json:
            _print(findings, place)
    for place, findings in found.items():
        if not findings.whole:
            faults = len(findings.faults) + findings.hidden
            raise RunFailed(f"{place} is not whole: {faults} faults; {_remedy(findings, uri)}")


def _remedy(findings: Findings, uri: str) -> str:
    if findings.kind == "takedown":
        return f"`clipmill run` publishes a version without them, and `clipmill prune {uri}` removes those from before"
    return "make the dataset again"


def _print(findings: Findings, uri: str) -> None:
    for note in findings.notes:
        click.echo(f"note: {note}")
    for left_out in findings.unchecked:
        click.echo(f"not checked: {left_out}")
    for fault in findings.faults:
        click.echo(f"fault: {fault}")
    if findings.hidden:
        click.echo(f"fault: and {findings.hidden} more")
    seen = ", ".join(f"{number:,} {what}" for what, number in findings.checked.items())
    click.echo(f"{uri}: {'whole' if findings.whole else 'NOT WHOLE'} ({seen or 'nothing could be read'})")


if __name__ == "__main__":
    command()
