"""From settings to a loaded model, by the adapter of its library. A library is imported when one of its models is loaded."""

from __future__ import annotations

from clipmill.core.manifests import ModelIdentity
from clipmill.core.settings import ModelSettings
from clipmill.encoders.library import ENTRY_POINT, OPEN_CLIP, TRANSFORMERS, find_place, refuse_unusable_model
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import Clips, Loaded, Preparation, VideoPreparation, WithoutPictures
from clipmill.encoders.spectrogram import Spectrogram


def load(settings: ModelSettings, known: Preprocessing | None = None) -> Loaded:
    """The model that the settings name, with all its dimensions. ``known`` is the preprocessing of a model of open_clip.

    Raises UserError for one that cannot be had, with what to type instead.
    """
    refuse_unusable_model(settings)
    place = find_place(settings)
    if place.library == OPEN_CLIP:
        from clipmill.encoders.adapters import open_clip

        if place.folder is not None:
            settings = settings.model_copy(update={"model": None, "pretrained": f"local-dir:{place.folder}"})
        return open_clip.load(settings, known)
    trusted = bool(settings.trust_remote_code)
    if place.library == TRANSFORMERS:
        from clipmill.encoders.adapters import transformers

        return transformers.load(place, trusted=trusted)
    if place.library == ENTRY_POINT:
        from clipmill.encoders.adapters import entry_points

        return entry_points.load(place, settings.pretrained)
    from clipmill.encoders.adapters import sentence_transformers

    return sentence_transformers.load(place, trusted=trusted)


def preparation_of(identity: ModelIdentity) -> Preparation | None:
    """How the pictures of a model are prepared, from its identity alone; None where only its package knows."""
    values = identity.preprocessing
    if "library" not in values:
        return Preprocessing.from_open_clip(values)
    if values["library"] == ENTRY_POINT:
        return None
    if "processor" not in values:
        return WithoutPictures()
    from clipmill.encoders.adapters.prepared import ProcessorPreparation

    return ProcessorPreparation.from_dict(values)


def clips_of(identity: ModelIdentity) -> Clips | None:
    """How the sounds and videos of a model are prepared, from its identity alone; None where only its package knows."""
    pictures, values = preparation_of(identity), identity.preprocessing
    if pictures is None:
        return None
    seen = None if isinstance(pictures, WithoutPictures) else pictures
    if "audio" in values and "library" not in values:
        return Clips(sounds=Spectrogram.from_dict(values["audio"]), pictures=seen)
    if "audio" in values:
        from clipmill.encoders.adapters.sounds import ExtractorPreparation

        return Clips(sounds=ExtractorPreparation.from_dict(values["audio"]), pictures=seen)
    if "video" in values:
        from clipmill.encoders.adapters.prepared import ProcessorPreparation

        video = values["video"]
        return Clips(videos=VideoPreparation(ProcessorPreparation.from_dict(video), int(video["count"])), pictures=seen)
    return Clips(pictures=seen)
