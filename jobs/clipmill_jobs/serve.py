"""clipmill serve: answer searches over HTTP, from what `run` publishes, on Ray."""

import click

from clipmill.core.settings import ClusterSettings, ServeSettings
from clipmill_jobs.command import Job, say
from clipmill_jobs.options import WITHOUT_ENCODERS, cache_limit_option, settings_options
from clipmill_jobs.reporting import current


@click.command("serve", cls=Job, doing="starting the service")
@settings_options(settings=ServeSettings, cluster=ClusterSettings, exclude=(*WITHOUT_ENCODERS, "stall_timeout"))
@cache_limit_option
def command(settings: ServeSettings, cluster: ClusterSettings) -> None:
    """Answer searches in indices, or in what `clipmill run` publishes, over HTTP, and show the page of `clipmill explore`.

    A published place is followed: a new version is opened beside the old one, tried, and read from then on, with no
    request failed; what `clipmill remove` takes down leaves the answers within seconds. SIGTERM or Ctrl-C ends it, after
    what was begun is answered.

    Without --token-file only this machine is let in. The interface is described at /docs.

    \b
    Examples:
      clipmill serve out/nightly
      clipmill serve photos=s3://bucket/photos art=s3://bucket/art --host 0.0.0.0 --token-file tokens.txt
    """
    from clipmill.serve.prepare import access_of, refuse_absent, refuse_without_packages

    refuse_without_packages(on_ray=True)
    access_of(settings)
    refuse_absent(settings)
    from clipmill.serve.on_ray.front import choose_front

    choose_front(cluster)
    from clipmill.serve.on_ray.run import run_on_ray

    def ready(address: str) -> None:
        click.echo(address)
        say("serve", f"answering at {address}; Ctrl-C ends it")
        current().rest()

    say("serve", "connecting to Ray")
    run_on_ray(settings, cluster, ready, lambda: say("serve", "ending, once what was begun is answered"))


if __name__ == "__main__":
    command()
