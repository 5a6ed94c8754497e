"""From settings to a service: what is installed, who may ask, and the indices opened."""

from functools import partial
from pathlib import Path

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.manifests import IndexManifest
from clipmill.core.settings import ExploreSettings, ServeSettings
from clipmill.datasets.manifests import read_manifest
from clipmill.index.search.open import open_index
from clipmill.serve.follow.target import target_of
from clipmill.serve.limits import Limits
from clipmill.serve.service import Service, encoders_here, named_of
from clipmill.serve.web.access import Access, refuse_open
from clipmill.serve.web.metrics import Metrics
from clipmill.serve.web.tokens import TokenFile


def refuse_without_packages(*, on_ray: bool) -> None:
    """Raises UserError where a package that the service needs is not installed."""
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401

        if on_ray:
            import ray.serve  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the service needs the package {error.name}, which is not installed: pip install 'clipmill[serve]'"
        ) from None


def refuse_absent(settings: ExploreSettings) -> None:
    """Raises UserError for a place where there is no index, before anything is started for it."""
    for named in named_of(settings.places):
        read_manifest(storage.resolve(target_of(named.uri).uri), IndexManifest)


def access_of(settings: ServeSettings) -> Access:
    """Raises UserError for a file of tokens that cannot be used, and where others would be let in without one."""
    tokens = TokenFile(settings.token_file.expanduser()) if settings.token_file else None
    refuse_open(settings.host, tokens)
    return Access(tokens)


def open_service(settings: ExploreSettings, metrics: Metrics) -> Service:
    """All indices, opened. Raises UserError or RunFailed for one that cannot be."""
    limits = Limits(k=settings.k_max)
    encoders = encoders_here(limits, settings.model, settings.pretrained, trusted=settings.trust_remote_code)
    opens = partial(open_index, resident=settings.resident)
    return Service.open(named_of(settings.places), limits, encoders, Path(settings.cache), metrics.changed, opens)
