"""The deployment that encodes: the model is loaded once for all replicas, and texts of many requests are one batch."""

import threading
from typing import Any

import numpy as np
from ray import serve

from clipmill.core.manifests import ModelIdentity
from clipmill.core.startup import prepare_process
from clipmill.encoders.query import QueryEncoder
from clipmill.engine.cluster import cause_of
from clipmill.serve.answers.encode import Vector
from clipmill.serve.service import MakeEncoder

BATCH = 16
_WAIT_SECONDS = 0.002
"""How long the first text of a batch waits for others: shorter than encoding one."""
_ANSWER_SECONDS = 120.0
_AGAIN = "ask again in a moment"


@serve.deployment(name="encoder", max_ongoing_requests=256)
class Encoders:
    """Encodes for every model that is asked for; a model is named by its identity, as JSON."""

    def __init__(self, model: str | None, pretrained: str | None, trusted: bool, most_pixels: int) -> None:
        prepare_process()
        self._named = (model, pretrained)
        self._trusted = trusted
        self._most_pixels = most_pixels
        self._models: dict[str, QueryEncoder] = {}

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=_WAIT_SECONDS)
    async def text(self, asked: list[tuple[str, str]]) -> list[Any]:
        """A vector for each text, or the exception that says why there is none."""
        answers: list[Any] = [None] * len(asked)
        for identity in {identity for identity, _ in asked}:
            places = [place for place, one in enumerate(asked) if one[0] == identity]
            for place, answer in zip(places, self._texts(identity, [asked[place][1] for place in places]), strict=True):
                answers[place] = answer
        return answers

    async def picture(self, identity: str, data: bytes) -> Vector:
        vector: Vector = self._model(identity).encode_picture(data, most_pixels=self._most_pixels)[0]
        return vector

    def _texts(self, identity: str, texts: list[str]) -> list[Any]:
        try:
            return list(self._model(identity).encode_texts(texts))
        except Exception as error:
            if len(texts) == 1:
                return [error]
            return [answer for text in texts for answer in self._texts(identity, [text])]

    def _model(self, identity: str) -> QueryEncoder:
        if identity not in self._models:
            parsed = ModelIdentity.model_validate_json(identity) if identity else None
            made = QueryEncoder(parsed, *self._named, trust_remote_code=self._trusted)
            self._models[identity] = made
            if parsed is not None:  # the first texts are encoded without the whole model, which is faster for many
                threading.Thread(target=made.load, name="clipmill-model", daemon=True).start()
        return self._models[identity]


class RemoteEncoder:
    """The encoder of one model, as replicas ask it."""

    def __init__(self, handle: Any, identity: ModelIdentity | None) -> None:
        self._handle = handle
        self._identity = identity.model_dump_json() if identity else ""

    def text(self, text: str) -> Vector:
        vector: Vector = answer_of(self._handle.text.remote((self._identity, text)), "encoding the text")
        return vector

    def picture(self, data: bytes) -> Vector:
        vector: Vector = answer_of(self._handle.picture.remote(self._identity, data), "encoding the picture")
        return vector


def answer_of(response: Any, doing: str) -> Any:
    """What a deployment answers. Raises its UserError, or RunFailed where it is gone or does not answer."""
    try:
        answer = response.result(timeout_s=_ANSWER_SECONDS)
    except Exception as error:
        raise cause_of(error, doing, _AGAIN) from None
    if isinstance(answer, Exception):
        raise answer
    return np.array(answer) if isinstance(answer, np.ndarray) else answer


def remote_encoders(handle: Any) -> MakeEncoder:
    """Makes encoders that ask the deployment."""
    return lambda identity: RemoteEncoder(handle, identity)
