"""What a model costs: its operations as published, or counted where it is our own."""

from clipmill.core.errors import UserError
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.encoders.names import BUILTIN_FOLDERS, refuse_unknown_model
from clipmill.estimate.workload import ModelCost
from clipmill.report.published import published_gflops


def cost_of_manifest(manifest: EmbeddingsManifest) -> ModelCost:
    """Of the model of an earlier run, whose operations need not be known: its seconds are.

    Raises UserError for imported vectors.
    """
    if manifest.model is None:
        raise UserError("--calibrate: it holds imported vectors, which nothing was encoded for; give what embed made")
    height, width = manifest.model.preprocessing.get("size", (1, 1))
    return ModelCost(
        manifest.model.name, manifest.dimension, (int(height), int(width)), None, None, "the calibrating run"
    )


def cost_of_model(name: str | None) -> ModelCost:
    """Of a model by its open_clip name (None: the built-in one), without its weights.

    Raises UserError for a name that open_clip does not know, or that no operations are published for.
    """
    refuse_unknown_model(name)
    return _cost_of_builtin() if name is None or name in BUILTIN_FOLDERS else _cost_of_published(str(name))


def _cost_of_published(name: str) -> ModelCost:
    import open_clip

    config, gflops = open_clip.get_model_config(name), published_gflops(name)
    if config is None or gflops is None:
        what = "open_clip does not know it" if config is None else "its operations are not published"
        raise UserError(f"--model {name}: {what}; give --calibrate with embeddings that were made with it")
    size = config["vision_cfg"].get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    return ModelCost(name, int(config["embed_dim"]), (height, width), *gflops, "published by open_clip")


def _cost_of_builtin() -> ModelCost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from clipmill.core.settings import ModelSettings
    from clipmill.encoders.model import load_model

    model = load_model(ModelSettings(), device="cpu")
    network: torch.nn.Module = model.network
    height, width = model.preprocessing.size
    pixels = torch.zeros(1, 3, height, width)
    tokens = torch.zeros(1, int(network.context_length), dtype=torch.long)  # type: ignore[arg-type]
    gflops = []
    with torch.no_grad():
        for encode, given in ((network.encode_image, pixels), (network.encode_text, tokens)):
            with FlopCounterMode(display=False) as counter:
                encode(given)  # type: ignore[operator]
            gflops.append(counter.get_total_flops() / 1e9)
    return ModelCost(
        model.identity.name, model.identity.dimension, (height, width), gflops[0], gflops[1], "counted by torch"
    )
