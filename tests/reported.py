"""Reports of small datasets, with a text encoder of no account."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captioned import pairs, write_captioned
from clipmill.core.manifests import ModelIdentity
from clipmill.core.reporter import Silent
from clipmill.core.settings import EvaluateSettings
from clipmill.engine.here import Here
from clipmill.evaluation.classification.zero_shot import Encode
from clipmill.report import evaluation
from clipmill.report.document import Report
from clipmill.report.evaluation import LoadEncoder, make_evaluation
from clipmill.stage.stage import Made

WORDS = pairs(7, 1)[0]


def make_report(tmp_path: Path, *, slice_by: tuple[str, ...] = (), **dataset: object) -> Report:
    """The report of a dataset that `write_captioned` makes of these options."""
    place = write_captioned(tmp_path / "e", **dataset)
    settings = EvaluateSettings(
        embeddings=place, output=str(tmp_path / "r"), templates="plain", bootstrap_samples=50, slice_by=slice_by
    )
    return evaluate(settings, load_encoder, tmp_path).manifest


def evaluate(settings: EvaluateSettings, load: LoadEncoder, cache: Path = Path("/dev/null")) -> Made[Report]:
    """An evaluation that nobody watches, in this process."""
    return evaluation.evaluate(make_evaluation(settings), load, cache, Silent(), drive=lambda: nullcontext(Here(1)))


def load_encoder(identity: ModelIdentity) -> Encode:
    def encode(texts: list[str]) -> NDArray[np.float32]:
        return np.array([WORDS[len(text) % 7] for text in texts], np.float32)

    return encode
