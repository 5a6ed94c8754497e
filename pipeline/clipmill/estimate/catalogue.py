"""Which models there are: what each costs, how good it is said to be, and whether its weights are on this machine."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clipmill.core.errors import UserError
from clipmill.encoders.names import nearest
from clipmill.encoders.published import published_by_model, published_by_weights

_CLASSES = ((10.0, "fast"), (40.0, "medium"), (150.0, "slow"))
_WEIGHT_BYTES = 4
"""Of a parameter, as most weights are published."""


@dataclass(frozen=True)
class Known:
    """A model with a tag. ``parameters``, ``gflops`` (of an image), ``acc1`` (ImageNet, zero-shot) and ``t2i`` (COCO, R@1) are
    None where not published; ``tokenizer`` is a repository of the hub that it needs one from; ``here`` the weights on this
    machine, if they are."""

    model: str
    pretrained: str
    dimension: int
    parameters: float | None
    gflops: float | None
    acc1: float | None
    t2i: float | None
    tokenizer: str | None
    here: Path | None

    @property
    def speed(self) -> str:
        """fast, medium, slow or very slow, by the operations that an image takes; empty where they are not known."""
        if self.gflops is None:
            return ""
        return next((name for most, name in _CLASSES if self.gflops < most), "very slow")

    @property
    def bytes(self) -> float | None:
        """About what is downloaded."""
        return None if self.parameters is None else self.parameters * _WEIGHT_BYTES

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "here": str(self.here) if self.here else None, "speed": self.speed, "bytes": self.bytes}


def known_weights() -> list[Known]:
    """Every model and tag that open_clip knows, the best published quality first, those without any last."""
    import open_clip

    found = [_known(model, tag) for model, tag in open_clip.list_pretrained()]
    return sorted(found, key=lambda one: (-(one.acc1 or 0.0), one.model, one.pretrained))


def worth_taking(known: list[Known]) -> list[Known]:
    """Those that no other beats in both quality and cost, the cheapest first."""
    measured = [one for one in known if one.acc1 is not None and one.gflops is not None]
    best, found = 0.0, []
    for one in sorted(measured, key=lambda one: (one.gflops or 0.0, -(one.acc1 or 0.0))):
        if (one.acc1 or 0.0) > best:
            best = one.acc1 or 0.0
            found.append(one)
    return found


def weights_of(model: str, known: list[Known]) -> list[Known]:
    """Those of one model. Raises UserError for a name without any, with names that are like it."""
    found = [one for one in known if one.model == model]
    if not found:
        close = nearest(model, {one.model for one in known})
        raise UserError(
            f"there are no weights of a model {model}"
            + (
                f"; close to it: {', '.join(close)}; type: clipmill models {close[0]}"
                if close
                else "; type: clipmill models"
            )
        )
    return found


def _known(model: str, tag: str) -> Known:
    row, cost = published_by_weights().get((model, tag)), published_by_model().get(model)
    config = _config(model)
    return Known(
        model=model,
        pretrained=tag,
        dimension=int(config["embed_dim"]),
        parameters=float(cost["params_m"]) * 1e6 if cost else None,
        gflops=float(cost["image_gflops"]) if cost else None,
        acc1=float(row["imagenet_top1"]) if row else None,
        t2i=float(row["coco_t2i_r1"]) if row else None,
        tokenizer=config["text_cfg"].get("hf_tokenizer_name"),
        here=_here(model, tag),
    )


@cache
def _config(model: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(model)
    return config


def _here(model: str, tag: str) -> Path | None:
    """The weights in one of the caches that open_clip reads; nothing is asked of the network."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.pretrained import get_pretrained_cfg

    settings = get_pretrained_cfg(model, tag)
    repository, _, name = str(settings.get("hf_hub", "")).rpartition("/")
    if repository:
        for one in (
            (f"{name.rpartition('.')[0]}.safetensors", name)
            if name
            else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        ):
            found = try_to_load_from_cache(repository, one)
            if isinstance(found, str):
                return Path(found)
        return None
    path = Path("~/.cache/clip").expanduser() / str(settings.get("url", "")).rpartition("/")[2]
    return path if path.is_file() else None
