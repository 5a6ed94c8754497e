"""Vectors of prompts on this machine's disk: a prompt set is encoded once per model, however many reports need it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import ClipmillError
from clipmill.core.manifests import ModelIdentity
from clipmill.evaluation.classification.zero_shot import Encode, template_vectors
from clipmill.stage.checkpoints import load, save

KEPT_SETS = 32
"""Sets that are kept, those used last; one of ImageNet's classes and 80 templates at 512 dimensions takes 164 MB."""


@dataclass(frozen=True)
class PromptCache:
    """Keeps prompt sets in a folder, each under the digest of all that its vectors depend on."""

    folder: Path

    def vectors(
        self,
        identity: ModelIdentity,
        classes: Sequence[str],
        templates: tuple[str, ...],
        text_encoder: Callable[[], Encode],
    ) -> NDArray[np.float32]:
        """The `template_vectors` of the model, float32 (c, t, d); ``text_encoder`` loads it where they are not cached yet.

        A folder that cannot be read or written counts as empty.
        """
        path = self.folder / f"{_digest(identity, classes, templates)}.npz"
        with suppress(OSError, ClipmillError):
            found = load(storage.resolve(path), NDArray[np.float32])
            if found is not None and found.shape == (len(classes), len(templates), identity.dimension):
                path.touch()
                return found
        made = template_vectors(text_encoder(), classes, templates)
        with suppress(OSError, ClipmillError):
            self.folder.mkdir(parents=True, exist_ok=True)
            save(storage.resolve(path), made)
            for old in sorted(self.folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)[:-KEPT_SETS]:
                old.unlink()
        return made


def _digest(identity: ModelIdentity, classes: Sequence[str], templates: tuple[str, ...]) -> str:
    model = [identity.weights_sha256, identity.tokenizer_sha256, identity.dimension, version("torch")]
    return hashlib.sha256(json.dumps([model, list(classes), templates]).encode()).hexdigest()
