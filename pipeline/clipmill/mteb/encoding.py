"""A model as MTEB's ``EncoderProtocol``: what its tasks give in batches, as unit vectors.

What is at hand is prepared as `clipmill embed` prepares it: pictures at full size by the model's own preprocessing, a sound by
its beginning. Queries have the prompt that the model was trained with for queries, everything else that of documents.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings, build
from clipmill.core.startup import prepare_process
from clipmill.encoders.protocol import Modality, SoundEncoder

if TYPE_CHECKING:
    from mteb.models import ModelMeta

    from clipmill.encoders.model import ClipModel

READ: tuple[Modality, ...] = ("text", "image", "audio")
"""What is read of a batch; videos are not."""


def encoder(
    model: str | None = None, pretrained: str | None = None, *, device: str | None = None, **settings: Any
) -> MtebEncoder:
    """A model to be given to ``mteb.evaluate``: the built-in one, or as ``--model`` and ``--pretrained`` name it.

    ``settings`` are the other options of a model: ``precision="bf16"``, ``dimension=256``, ``trust_remote_code=True``.
    ``device`` is torch's name of one; default: a GPU where there is one. Raises `clipmill.core.errors.UserError` for a model
    that cannot be had, and where mteb is not installed.
    """
    require_mteb()
    made = build(ModelSettings, {"model": model, "pretrained": pretrained, **settings})
    prepare_process()
    from clipmill.encoders.model import load_model

    return MtebEncoder(load_model(made, device))


def require_mteb() -> None:
    """Raises UserError where mteb is not installed."""
    if importlib.util.find_spec("mteb") is None:
        raise UserError("MTEB's tasks need the package mteb, which is not installed: pip install 'clipmill[mteb]'")


@dataclass(frozen=True)
class MtebEncoder:
    """A loaded model, which MTEB's tasks call."""

    model: ClipModel

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> NDArray[np.float32]:
        """One unit vector an item, float32 (n, d). ``inputs`` are batches with lists ``text``, ``image`` (PIL) or ``audio``
        (``array``, ``sampling_rate``); of an item with several it is that of the sum of their unit vectors, as MTEB's own CLIP
        models have it.

        Raises UserError for what the model does not encode.
        """
        texts: list[str] = []
        others: dict[str, list[NDArray[np.float32]]] = {}
        for batch in inputs:
            there = [modality for modality in READ if modality in batch]
            self._refuse_unknown(there, batch)
            texts += batch.get("text", ())
            for modality in there:
                if modality != "text":
                    others.setdefault(modality, []).append(self._encoders[modality](batch[modality]))
        parts = [np.concatenate(vectors) for vectors in others.values()]
        if texts:
            query = getattr(prompt_type, "value", prompt_type) == "query"
            parts.append(self.model.encode_queries(texts) if query else self.model.encode_texts(texts))
        if not parts:
            return np.empty((0, self.model.identity.dimension), np.float32)
        return _together(parts)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of each with each: a tensor (n, m)."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of each with its own: a tensor (n,)."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    @cached_property
    def mteb_model_meta(self) -> ModelMeta:
        """What MTEB records with results: the model's name, and as its revision the sha256 of its weights."""
        from mteb.models import ModelMeta

        identity, network = self.model.identity, self.model.network
        parameters = list(network.parameters())
        return ModelMeta(
            loader=None,
            name=_name(identity.name, identity.pretrained),
            revision=identity.weights_sha256,
            release_date=None,
            languages=None,
            n_parameters=sum(one.numel() for one in parameters),
            memory_usage_mb=sum(one.numel() * one.element_size() for one in parameters) / 2**20,
            max_tokens=self.model.token_form.length if "text" in self._modalities else None,
            embed_dim=identity.dimension,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            use_instructions=any(dict(identity.preprocessing.get("prompts", {})).values()),
            training_datasets=None,
            modalities=list(self._modalities),
        )

    @property
    def _modalities(self) -> tuple[Modality, ...]:
        return tuple(one for one in READ if one in self.model.encoder.modalities)

    @property
    def _encoders(self) -> dict[str, Callable[[Iterable[Any]], NDArray[np.float32]]]:
        return {"image": self._pictures, "audio": self._sounds}

    def _refuse_unknown(self, there: list[Modality], batch: Mapping[str, Any]) -> None:
        unknown = [one for one in there if one not in self._modalities]
        if unknown or not there:
            raise UserError(
                f"the model {self.model.identity.name} encodes {' and '.join(self._modalities)}; this task gives "
                f"{' and '.join(unknown or map(str, batch))}: choose tasks by mteb.get_tasks(modalities=…)"
            )

    def _pictures(self, pictures: Iterable[Any]) -> NDArray[np.float32]:
        import torch

        from clipmill.source.decode import pixels_of

        prepare = self.model.preprocessing.prepare
        return self.model.encode_images(torch.stack([prepare(pixels_of(picture)) for picture in pictures]))

    def _sounds(self, sounds: Iterable[Any]) -> NDArray[np.float32]:
        import torch

        from clipmill.source.sound import resampled

        encoder = self.model.encoder
        assert isinstance(encoder, SoundEncoder)
        heard = encoder.sounds
        prepared = []
        for sound in sounds:
            rate, samples = int(sound["sampling_rate"]), np.asarray(sound["array"], np.float32)
            one = samples.mean(axis=0, dtype=np.float32) if samples.ndim > 1 else samples
            prepared.append(heard.prepare(resampled(one[: round(heard.seconds * rate)], rate, heard.rate)))
        return self.model.start_sounds(torch.stack(prepared))()


def _together(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    if len({len(vectors) for vectors in parts}) > 1:
        raise UserError("some items of a task have a text or a picture and others have none: that is not supported")
    if len(parts) == 1:
        return parts[0]
    summed = np.sum(parts, axis=0)
    made: NDArray[np.float32] = summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)
    return made


def _name(name: str, pretrained: str) -> str:
    """``organisation/model``, as MTEB files results: what a library calls its own stays, others are clipmill's."""
    own = name.split(":", 1)[-1]
    if "/" in own:
        return own
    tag = pretrained.rstrip("/").rsplit("/", 1)[-1]
    return f"clipmill/{own}-{tag}" if tag else f"clipmill/{own}"
