"""clipmill doctor: what this machine has, and what to do where something is missing."""

import click

from clipmill_jobs.command import Job, print_json

_MARKS = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}


@click.command("doctor", cls=Job, doing="looking at this machine")
@click.argument("prefix", required=False, metavar="[URI]")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, for a bug report.")
def command(prefix: str | None, as_json: bool) -> None:
    """Look at versions, processor, GPUs, memory, disks and the cluster; with a URI also whether outputs can be made there.

    Each line is ok, a note, or a fault with what to do. Below the URI a small folder is written and deleted again. Exit
    code 1 where there is a fault.

    \b
    Examples:
      clipmill doctor
      clipmill doctor s3://bucket/vectors/
      clipmill doctor --json
    """
    from clipmill.verification.machine import check_machine

    found = []
    for check in check_machine(prefix):
        found.append(check)
        if not as_json:
            click.echo(f"{_MARKS[check.state]} {check.name}: {check.found}")
            if check.advice:
                click.echo(f"      {check.advice}")
    if as_json:
        print_json([check.as_dict() for check in found])
    if any(check.state == "fault" for check in found):
        raise SystemExit(1)


if __name__ == "__main__":
    command()
