"""Texts and pictures as vectors for many who ask at once: one model, one thread in it, texts in batches."""

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipmill.encoders.query import QueryEncoder

_BATCH = 16
_KEPT_TEXTS = 2048
Vector = NDArray[np.float32]


class Encoder(Protocol):
    """What makes vectors (d,) of unit length. Raises UserError for what cannot be encoded."""

    def text(self, text: str) -> Vector: ...

    def picture(self, data: bytes) -> Vector: ...


class BatchingEncoder:
    """Encodes in a thread of its own. Texts that come while it works are the next batch, and those of late are kept."""

    def __init__(self, encoder: QueryEncoder, most_pixels: int) -> None:
        self._encoder = encoder
        self._most_pixels = most_pixels
        self._waiting: queue.SimpleQueue[tuple[str | bytes, Future[Vector]]] = queue.SimpleQueue()
        self._known: OrderedDict[str, Vector] = OrderedDict()
        self._thread = threading.Thread(target=self._work, name="clipmill-encoder", daemon=True)
        self._thread.start()

    def text(self, text: str) -> Vector:
        known = self._known.get(text)
        return known if known is not None else self._ask(text)

    def picture(self, data: bytes) -> Vector:
        return self._ask(data)

    def _ask(self, item: str | bytes) -> Vector:
        future: Future[Vector] = Future()
        self._waiting.put((item, future))
        return future.result()

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            texts = [(item, future) for item, future in batch if isinstance(item, str)]
            if texts:
                self._answer_texts([text for text, _ in texts], [future for _, future in texts])
            for item, future in batch:
                if isinstance(item, bytes):
                    _answer(future, partial(self._picture, item))

    def _picture(self, data: bytes) -> Vector:
        vector: Vector = self._encoder.encode_picture(data, most_pixels=self._most_pixels)[0]
        return vector

    def _text(self, text: str) -> Vector:
        vector: Vector = self._encoder.encode_texts([text])[0]
        return vector

    def _answer_texts(self, texts: Sequence[str], futures: Sequence["Future[Vector]"]) -> None:
        """Together; where one of them cannot be encoded, each by itself."""
        try:
            vectors = self._encoder.encode_texts(list(texts))
        except Exception:
            for text, future in zip(texts, futures, strict=True):
                _answer(future, partial(self._text, text))
            return
        for text, vector, future in zip(texts, vectors, futures, strict=True):
            self._known[text] = vector
            future.set_result(vector)
        while len(self._known) > _KEPT_TEXTS:
            self._known.popitem(last=False)


def _answer(future: "Future[Vector]", encode: Callable[[], Vector]) -> None:
    try:
        future.set_result(encode())
    except BaseException as error:
        future.set_exception(error)
