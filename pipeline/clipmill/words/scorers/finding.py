"""From settings to what scores: where it is and what it is first, then the model itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.core.settings import ModelSettings, RecaptionSettings
from clipmill.core.text_manifests import ScorerIdentity
from clipmill.encoders.known import keep_identity, known_identity
from clipmill.encoders.library import TRANSFORMERS, download, find_place, pretrained_of, require
from clipmill.encoders.protocol import IMAGE_AND_TEXT, modalities_of
from clipmill.words.folder import ModelFolder, folder_here
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
    files = ModelFolder(place.name, folder)
    classes = files.configuration().get("architectures") or ()
    if not set(classes) & set(CLASSES):
        raise UserError(
            f"--model {place.name} is a {' and '.join(classes) or 'model of no class'}, which has no image-text matching head; "
            f"{' and '.join(CLASSES)} has one, and any CLIP model is used with --filter clip"
        )
    identity = ScorerIdentity(
        name=place.name,
        engine=ITM,
        pretrained=pretrained_of(place, folder),
        **files.sha256(),
    )
    return FoundScorer(identity, named, folder)


def _load_itm(found: FoundScorer, device: str) -> Scorer:
    import torch

    from clipmill.words.scorers.itm import ItmScorer

    settings, folder = found.settings, found.folder
    assert folder is not None
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and device == "cuda")
    here = folder_here(found.identity.name, folder, settings)
    network, processor = here.load("BlipForImageTextRetrieval", bf16=bf16)
    batch_size = settings.batch_size or _BATCH_SIZE[device]
    return ItmScorer(network.to(device), processor, torch.device(device), batch_size)
