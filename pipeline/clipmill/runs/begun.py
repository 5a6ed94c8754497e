"""What an earlier built-in model began is finished, and grown, with that model, whatever the built-in model is today."""

from collections.abc import Iterable, Iterator

from clipmill.core.errors import UserError
from clipmill.core.reporter import Reporter
from clipmill.core.settings import EmbedSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.encoders.names import BUILTIN, builtin_of
from clipmill.stage.staging import plans_towards
from clipmill.storage import Location


def with_builtin_of(settings: EmbedSettings, outputs: Iterable[Location], reporter: Reporter) -> EmbedSettings:
    """The settings, with the built-in model that made or began what is at the first output where anything is. Settings that
    name a model, or replace what is there, stay as they are."""
    if settings.model is not None or settings.pretrained is not None or settings.overwrite:
        return settings
    weights = next((sha256 for output in outputs for sha256 in _weights_at(output)), None)
    name = BUILTIN if weights is None else builtin_of(BUILTIN, weights)
    if name == BUILTIN:
        return settings
    reporter.message("embed", f"goes on with {name}, the built-in model that began it; --model {BUILTIN} is today's")
    return settings.model_copy(update={"model": name})


def _weights_at(output: Location) -> Iterator[str]:
    """The sha256 of the weights of a finished dataset, then of unfinished ones."""
    try:
        model = Embeddings.open(output.uri).manifest.model
    except UserError:
        pass  # there is none, or another command says what is wrong with it
    else:
        yield from (model.weights_sha256,) if model else ()
    for plan in plans_towards(output):
        model = plan.get("model")
        yield from (model["weights_sha256"],) if isinstance(model, dict) and "weights_sha256" in model else ()
