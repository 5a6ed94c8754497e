"""Models behind an address that speaks OpenAI's chat completions: one request a picture, and no answer paid for twice.

Every answer is kept beside the unfinished work under the sha256 of its request, before it is used: a run that goes on finds it
there. Waiting and trying again follow what the server says (429, Retry-After); what it says of one picture is a reject.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import urllib3
from torchvision.transforms.functional import to_pil_image

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.core.secrets import clean
from clipmill.core.text_manifests import GeneratorIdentity
from clipmill.storage import Location
from clipmill.words.protocol import Decoding, Prepared, Question, Said, Unanswerable

KEY = "CLIPMILL_API_KEY"
"""The variable of the environment that holds the key; ``OPENAI_API_KEY`` where it is not set."""
_TRIES = 6
_PATIENCE_SECONDS = 600.0
_TIMEOUT = urllib3.Timeout(connect=20, read=300)
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_JPEG_QUALITY = 90
_DETAIL = 200


def key_of_environment() -> str | None:
    """The key to send, if there is one."""
    return os.environ.get(KEY) or os.environ.get("OPENAI_API_KEY") or None


@dataclass(frozen=True)
class HttpGenerator:
    """A model at ``base_url``. ``kept`` is the folder of answers, ``at_once`` the most requests under way."""

    base_url: str
    model: str
    identity: GeneratorIdentity
    kept: Location
    at_once: int

    @property
    def exact(self) -> bool:
        """Nothing is filled up."""
        return False

    def prepare(self, question: Question) -> Prepared:
        """The messages of a request, with pictures as JPEG."""
        messages: list[dict[str, Any]] = []
        for shown in question.examples:
            messages.append(_asked(shown.picture, shown.prompt))
            messages.append({"role": "assistant", "content": shown.answer})
        messages.append(_asked(question.picture, question.prompt))
        return Prepared({"messages": messages}, 0)

    def generate(self, batch: Sequence[Prepared], decoding: Decoding, seed: int) -> list[list[Said]]:
        """One request each, ``at_once`` at a time. Raises `Unanswerable` where one is refused, once the others are kept."""
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="ask") as pool:
            under_way = [pool.submit(self._answered, one, decoding, seed) for one in batch]
            return [one.result() for one in under_way]

    def score(self, batch: Sequence[Prepared], choices: Sequence[str]) -> list[list[Said]]:
        """These servers do not tell how probable a text is that they did not write."""
        raise Unanswerable("--choices needs probabilities of given answers, which this address does not tell")

    def _answered(self, one: Prepared, decoding: Decoding, seed: int) -> list[Said]:
        request: dict[str, Any] = {"model": self.model, "messages": one.inputs["messages"]}
        request |= {"max_tokens": decoding.max_tokens, "temperature": decoding.temperature, "top_p": decoding.top_p}
        request |= {"n": decoding.candidates} if decoding.candidates > 1 else {}
        request |= {"seed": seed % 2**31} if decoding.temperature > 0 else {}
        body = json.dumps(request).encode()
        place = self.kept / f"{hashlib.sha256(body).hexdigest()}.json"
        try:
            document = json.loads(storage.read_bytes(place))
        except FileNotFoundError:
            document = self._asked_for(body)
            storage.write_bytes(place, json.dumps(document).encode())
        if "refused" in document:
            raise Unanswerable(document["refused"])
        return _said(document)

    def _asked_for(self, body: bytes) -> dict[str, Any]:
        """The answer to a request, or ``refused`` and why. Raises RunFailed where there is none to be had."""
        until, wait, failed = time.monotonic() + _PATIENCE_SECONDS, _FIRST_WAIT, 0
        while True:
            status, headers, data, reason = self._sent(body)
            if status == 200:
                document = _document(data)
                if document is not None:
                    return document
                reason = "the answer was cut short"
            elif status in (401, 403):
                raise RunFailed(
                    f"{self.base_url} refuses the key (HTTP {status}: {reason}); set {KEY} to one that it takes; what was "
                    "answered is kept: run the same command again to continue"
                )
            elif status in (400, 413, 415, 422):
                return {"refused": f"HTTP {status}: {reason}"}
            elif status == 404:
                raise RunFailed(
                    f"{self.base_url}/chat/completions is not there, or knows no model {self.model} (HTTP 404: {reason}); "
                    "look at --base-url and --model"
                )
            failed += status != 429
            asked = _retry_after(headers)
            pause = asked if asked is not None else wait * (0.5 + random.random())
            if failed >= _TRIES or time.monotonic() + pause > until:
                raise RunFailed(
                    f"{self.base_url} does not answer ({reason}); what was answered is kept: run the same command again to "
                    "continue"
                )
            time.sleep(pause)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _sent(self, body: bytes) -> tuple[int, Mapping[str, str], bytes, str]:
        """Status (0: no answer), headers, body, and in words what is wrong."""
        headers = {"Content-Type": "application/json"}
        if key := key_of_environment():
            headers["Authorization"] = f"Bearer {key}"
        try:
            answer = _pool(self.at_once).request(
                "POST", f"{self.base_url}/chat/completions", body=body, headers=headers, timeout=_TIMEOUT, retries=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return 0, {}, b"", clean(f"{type(error).__name__}: {error}")[:_DETAIL]
        return answer.status, answer.headers, answer.data, _reason(answer.data)


_POOLS: dict[int, urllib3.PoolManager] = {}


def _pool(size: int) -> urllib3.PoolManager:
    if size not in _POOLS:
        _POOLS[size] = urllib3.PoolManager(maxsize=size)
    return _POOLS[size]


def _asked(picture: torch.Tensor, prompt: str) -> dict[str, Any]:
    stream = io.BytesIO()
    to_pil_image(picture).save(stream, "JPEG", quality=_JPEG_QUALITY)
    address = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": address}}]
    return {"role": "user", "content": [{"type": "text", "text": prompt}, *parts]}


def _document(data: bytes) -> dict[str, Any] | None:
    """What is used of an answer; None where it is none."""
    try:
        found = json.loads(data)
        choices = [
            {
                "text": one["message"].get("content") or "",
                "refusal": one["message"].get("refusal"),
                "finish": one.get("finish_reason"),
                "logprob": _mean(one.get("logprobs")),
            }
            for one in found["choices"]
        ]
        usage = found.get("usage") or {}
        tokens = {name: int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    refused = [one["refusal"] for one in choices if one["refusal"]]
    if not choices or refused:
        return {
            "refused": f"the model refuses: {refused[0]}"[:_DETAIL] if refused else "the answer has no text",
            **tokens,
        }
    return {"choices": choices, **tokens}


def _mean(logprobs: Any) -> float | None:
    found = [one["logprob"] for one in (logprobs or {}).get("content") or []]
    return sum(found) / len(found) if found else None


def _said(document: Mapping[str, Any]) -> list[Said]:
    """Tokens are told of all texts of a request together: they count at the first."""
    texts = document["choices"]
    each = document["completion_tokens"] // len(texts)
    rest = document["completion_tokens"] - each * (len(texts) - 1)
    return [
        Said(
            one["text"].strip(),
            each if number else rest,
            one["logprob"],
            "length" if one["finish"] == "length" else "stop",
            0 if number else document["prompt_tokens"],
        )
        for number, one in enumerate(texts)
    ]


def _reason(data: bytes) -> str:
    """What a server says is wrong, in one line."""
    try:
        found = json.loads(data)
        told = found.get("error", found)
        text = str(told.get("message", told) if isinstance(told, dict) else told)
    except (ValueError, AttributeError):
        text = data.decode(errors="replace")
    return clean(" ".join(text.split()))[:_DETAIL]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return min(max(0.0, float(headers.get("Retry-After", ""))), _LONGEST_WAIT)
    except ValueError:
        return None
