"""From settings to what scores: where it is and what it is first, then the model itself."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.core.settings import ModelSettings, RecaptionSettings
from clipmill.core.text_manifests import ScorerIdentity
from clipmill.encoders.known import keep_identity, known_identity
from clipmill.encoders.library import TRANSFORMERS, download, find_place, pretrained_of, require
from clipmill.encoders.protocol import IMAGE_AND_TEXT, modalities_of
from clipmill.words.loading import files_sha256, processor_files
from clipmill.words.scorers.itm import CLASSES

if TYPE_CHECKING:
    from clipmill.words.scorers.protocol import Scorer

CLIP, ITM = "clip", "itm"
_BATCH_SIZE = {"cpu": 16, "cuda": 128}


@dataclass(frozen=True)
class FoundScorer:
    """A model that is there to be loaded, and what it is; ``folder`` is that of a model with a head."""

    identity: ScorerIdentity
    settings: ModelSettings
    folder: Path | None = None

    def load(self, device: str) -> Scorer:
        """The model on ``device``. Raises UserError where it cannot be loaded, RunFailed where it is another by now."""
        if self.identity.engine == ITM:
            return _load_itm(self, device)
        from clipmill.encoders.model import load_model
        from clipmill.words.scorers.clip import ClipScorer

        model = load_model(self.settings, device=device)
        if differences := self.identity.differences(_of_clip(model.identity)):
            raise RunFailed(
                f"the model's files are not those that the run began with ({'; '.join(differences)}); run the same command "
                "again"
            )
        return ClipScorer(model)


def find_scorer(settings: RecaptionSettings) -> FoundScorer:
    """The model that the settings name. Raises UserError for one that is not there, or that cannot score pairs this way."""
    named = settings.model_settings
    if settings.filter == ITM:
        return _find_itm(named)
    identity = known_identity(named)
    if identity is None:
        from clipmill.encoders.model import load_model

        identity = load_model(named, device="cpu").identity
        keep_identity(named, identity)
    if missing := sorted(set(IMAGE_AND_TEXT) - set(modalities_of(identity.preprocessing))):
        raise UserError(f"--model {identity.name} encodes no {missing[0]}s, and pictures are compared with texts")
    return FoundScorer(_of_clip(identity), named)


def _of_clip(identity: ModelIdentity) -> ScorerIdentity:
    prepares = json.dumps([identity.preprocessing, identity.tokenizer_sha256, identity.dimension], sort_keys=True)
    return ScorerIdentity(
        name=identity.name,
        engine=CLIP,
        pretrained=identity.pretrained,
        weights_sha256=identity.weights_sha256,
        processor_sha256=hashlib.sha256(prepares.encode()).hexdigest(),
    )


def _find_itm(named: ModelSettings) -> FoundScorer:
    if named.model is None and named.pretrained is None:
        raise UserError(
            "--filter itm needs --model: a BLIP model with an image-text matching head, such as "
            "transformers:Salesforce/blip-itm-base-coco"
        )
    place = find_place(named)
    if place.library != TRANSFORMERS:
        raise UserError(
            f"--model {place.name or named.model} has no image-text matching head: use it with --filter clip"
        )
    require(TRANSFORMERS, f"--model {place.name}")
    folder = download(place, code=False)
    try:
        classes = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or ()
    except (OSError, ValueError, AttributeError):
        raise UserError(
            f"--model {place.name}: {folder / 'config.json'} cannot be read as the configuration of a model"
        ) from None
    if not set(classes) & set(CLASSES):
        raise UserError(
            f"--model {place.name} is a {' and '.join(classes) or 'model of no class'}, which has no image-text matching head; "
            f"{' and '.join(CLASSES)} has one, and any CLIP model is used with --filter clip"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(
            f"--model {place.name}: {folder} has no weights in safetensors; others would execute code when read"
        )
    identity = ScorerIdentity(
        name=place.name,
        engine=ITM,
        pretrained=pretrained_of(place, folder),
        weights_sha256=files_sha256(weights),
        processor_sha256=files_sha256(processor_files(folder)),
    )
    return FoundScorer(identity, named, folder)


def _load_itm(found: FoundScorer, device: str) -> Scorer:
    import torch
    import transformers

    from clipmill.encoders.source import quiet
    from clipmill.encoders.weights import first_line
    from clipmill.words.scorers.itm import ItmScorer

    name, settings, folder = found.identity.name, found.settings, found.folder
    assert folder is not None
    if not folder.is_dir():
        if not (place := find_place(settings)).repository:
            raise UserError(
                f"--model {name}: {folder} is not on the node {platform.node()}; put it at the same place there"
            )
        folder = download(place, code=False)
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and device == "cuda")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    transformers.utils.logging.disable_progress_bar()
    try:
        with quiet():
            processor = transformers.AutoProcessor.from_pretrained(folder, **options)
            network, told = transformers.BlipForImageTextRetrieval.from_pretrained(
                folder,
                dtype=torch.bfloat16 if bf16 else torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        raise UserError(
            f"--model {name}: {folder} cannot be loaded ({first_line(error)}); it needs the files of its processor and "
            "tokenizer beside config.json and the weights"
        ) from None
    if missing := sorted(told["missing_keys"]):
        raise UserError(f"--model {name}: {folder} has no weights for {len(missing)} tensors, such as {missing[0]}")
    network = network.eval().requires_grad_(False).to(device)
    return ItmScorer(network, processor, torch.device(device), settings.batch_size or _BATCH_SIZE[device])
