"""Which kind of model a loss trains."""

import torch

from clipmill.core.settings import TrainSettings
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import Preparation
from clipmill.encoders.spectrogram import Spectrogram
from clipmill.train.captioning import refuse_without_decoder
from clipmill.train.learner import Learner
from clipmill.train.matcher import find_matcher, make_matcher
from clipmill.train.towers import find_source, make_towers
from clipmill.train.writer import find_writer, make_writer


def make_learner(settings: TrainSettings, device: torch.device) -> Learner:
    """The network that the settings name, ready to learn. Raises UserError as `make_towers` and `make_writer` do."""
    if settings.loss == "lm":
        return make_writer(settings, device)
    return make_matcher(settings, device) if settings.loss == "itm" else make_towers(settings, device)


def check_model(settings: TrainSettings) -> Preparation:
    """How pictures are prepared for the model that the settings name. Raises UserError for a model that is not there, or that
    the loss cannot train."""
    if settings.loss == "lm":
        return find_writer(settings).pictures
    if settings.loss == "itm":
        return find_matcher(settings).pictures
    source = find_source(settings)
    if settings.loss == "coca":
        refuse_without_decoder(source)
    return Preprocessing.from_open_clip({"size": 1, **source.preprocess})


def find_sounds(settings: TrainSettings) -> Spectrogram | None:
    """How sounds become pictures for the model that the settings name; None where it does not hear, nor learns to."""
    if settings.loss in ("lm", "itm"):
        return None
    sounds = find_source(settings).sounds
    return None if sounds is None else Spectrogram.from_dict(sounds)
