"""clipmill explore: search on a page in the browser, on this machine."""

import webbrowser

import click

from clipmill.core.settings import ExploreSettings
from clipmill_jobs.command import Job, say
from clipmill_jobs.options import cache_limit_option, settings_options
from clipmill_jobs.reporting import current


@click.command("explore", cls=Job, doing="opening the index")
@settings_options(settings=ExploreSettings)
@click.option("--no-browser", is_flag=True, help="Do not open the page; its address is printed.")
@cache_limit_option
def command(settings: ExploreSettings, no_browser: bool) -> None:
    """Open a page to search an index, or what `clipmill run` publishes: by words, by picture, like a row that is there.

    Only this machine can reach it. Several indices or versions can be seen side by side; a published place is followed.
    Ctrl-C ends it. For others, and for programs, there is `clipmill serve`.

    \b
    Examples:
      clipmill explore out/nightly
      clipmill explore out/index --port 8080 --no-browser
      clipmill explore before=out/nightly/runs/20260601T020000Z-1a2b3c4d now=out/nightly
    """
    from clipmill.serve.prepare import open_service, refuse_absent, refuse_without_packages

    refuse_without_packages(on_ray=False)
    refuse_absent(settings)
    from clipmill.serve.here import address_of, listen, run_here
    from clipmill.serve.web.access import Access
    from clipmill.serve.web.app import make_app
    from clipmill.serve.web.log import open_query_log
    from clipmill.serve.web.metrics import Metrics

    socket = listen("127.0.0.1", settings.port)
    metrics = Metrics()
    service = open_service(settings, metrics)
    queries = open_query_log(settings.log_queries, service.indices[0].current.index.dimension)
    app = make_app(service, Access(), metrics, queries)
    address = address_of(socket)
    click.echo(address)
    say("explore", f"open {address} in a browser; Ctrl-C ends it")
    current().rest()
    if not no_browser:
        webbrowser.open(address)
    run_here(app, socket)


if __name__ == "__main__":
    command()
