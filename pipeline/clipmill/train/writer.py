"""A model of transformers that learns to write about pictures: to answer questions, or to caption."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms.functional import to_pil_image

from clipmill.core.errors import UserError
from clipmill.core.settings import TrainSettings
from clipmill.encoders.weights import first_line
from clipmill.train.batches import Batch
from clipmill.train.conversation import Packed, Phrasing, Turn
from clipmill.train.next_token import NOT_ASKED, Pieces, next_token_backward
from clipmill.train.processed import Processed
from clipmill.train.processed_learner import ProcessedLearner, computes_in_half
from clipmill.train.rows import Example
from clipmill.train.truth import Part
from clipmill.train.workers import Workers
from clipmill.words.styles import prompt_of

MOST_TURNS = 8
"""Questions about one picture in one step."""
_VALIDATED = 64
_SAME, _SAME_HALF = 1e-3, 0.1
"""Largest difference of log probabilities that rounding explains, in float32 and in bfloat16."""


@dataclass(frozen=True)
class Answers:
    """Of held-out pictures, each asked one of its questions: the share whose whole answer the model finds the most probable at
    every token, which is what it would write; and the mean loss of a token, in nats."""

    images: int
    hits: list[float]
    nats: float

    @property
    def score(self) -> float:
        """The share of right answers."""
        return float(np.mean(self.hits))

    def as_dict(self) -> dict[str, float | int | None]:
        """The figures by their names."""
        return {"images": self.images, "answers_right": round(self.score, 4), "nats": round(self.nats, 4)}


@dataclass(frozen=True)
class Writer(ProcessedLearner):
    """A network that writes, asked as its processor's ``phrasing`` says."""

    phrasing: Phrasing

    def backward(
        self, step: int, batch: Batch, parts: Sequence[Part], workers: Workers, statistics: Sequence[torch.Tensor]
    ) -> float:
        """The mean cross-entropy of the tokens of all answers."""
        turns = [self._turns(step, *one) for one in zip(batch.questions, batch.captions, batch.texts, strict=True)]
        packed = self._packed(turns)
        size = self.settings.micro_batch or len(packed)
        pieces = Pieces(len(packed), size, (self.settings.seed * 1_000_003 + step) * 1_009 + workers.rank)

        def say(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
            some = packed.some(rows)
            return self._say(batch.pixels[rows], some), some.labels[:, 1:].to(self.device)

        asked = (packed.labels[:, 1:] != NOT_ASKED).sum().to(self.device)
        return next_token_backward(say, pieces, asked, workers)

    def _turns(self, step: int, questions: tuple[str, ...], answers: tuple[str, ...], text: str) -> list[Turn]:
        """Questions and answers of a picture in an order that the step and they themselves decide; where there are only
        captions, the one that was drawn, asked for as `clipmill caption` asks."""
        if not questions:
            return [(prompt_of("short", instructed=True), text)]
        told = zlib.crc32("\n".join((*questions, *answers)).encode())
        order = np.random.default_rng((self.settings.seed, step, told)).permutation(len(questions))
        return [(questions[at], answers[at]) for at in order[:MOST_TURNS]]

    def _packed(self, turns: Sequence[Sequence[Turn]]) -> Packed:
        return self.phrasing.packed([self.phrasing.conversation(of_one) for of_one in turns])

    def _say(self, pixels: torch.Tensor, packed: Packed) -> torch.Tensor:
        """Logits of the next token, float32 (n, t − 1, vocabulary)."""
        values = self.source.values(pixels, self.network)
        looks_at = packed.looks_at.to(self.device)
        hidden = torch.zeros(looks_at.shape, dtype=values.dtype, device=self.device)
        hidden = hidden.masked_fill(~looks_at, torch.finfo(values.dtype).min)
        with self.autocast():
            found = self.network(
                input_ids=packed.ids.to(self.device),
                pixel_values=values,
                attention_mask=hidden,
                position_ids=packed.positions.to(self.device),
                use_cache=False,
            )
        logits: torch.Tensor = found.logits[:, :-1].float()
        return logits

    def validate(self, examples: Iterable[Example], templates: Sequence[str]) -> Answers:
        """One question about each picture: the next of its own with every picture, so that all kinds are asked."""
        hits: list[float] = []
        nats = tokens = 0.0
        numbered = enumerate(examples)
        while some := list(islice(numbered, _VALIDATED)):
            turns = [[self._asked(number, example)] for number, example in some]
            packed = self._packed(turns)
            logits = self._say(torch.stack([example.pixels for _, example in some]), packed)
            wanted = packed.labels[:, 1:].to(self.device)
            asked = wanted != NOT_ASKED
            right = (logits.argmax(dim=-1) == wanted) | ~asked
            hits += right.all(dim=1).double().tolist()
            nats += float(
                F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=NOT_ASKED, reduction="sum")
            )
            tokens += float(asked.sum())
        return Answers(len(hits), hits, nats / max(tokens, 1.0))

    @staticmethod
    def _asked(number: int, example: Example) -> Turn:
        at = number % len(example.captions)
        question = example.questions[at] if example.questions else prompt_of("short", instructed=True)
        return question, example.captions[at]


def find_writer(settings: TrainSettings) -> Processed:
    """The model without its weights. Raises UserError as `Processed.find`, and for one that is not asked by messages."""
    source = Processed.find(settings)
    if not getattr(source.processor, "chat_template", None):
        raise UserError(f"--loss lm trains models that are asked by messages, and {source.name} has no chat template")
    return source


def make_writer(settings: TrainSettings, device: torch.device) -> Writer:
    """The network that the settings name. Raises UserError as `find_writer` and `Processed.network` do, and for an architecture
    that does not learn as it is asked."""
    source = find_writer(settings)
    from transformers import AutoModelForImageTextToText

    network = source.network(AutoModelForImageTextToText, settings)
    half = computes_in_half(settings, device)
    learner = Writer(network.to(device), source, device, half, settings, _phrasing(network, source))
    _refuse_unlike_asked(learner)
    return learner


def _phrasing(network: Any, source: Processed) -> Phrasing:
    height, width = source.pictures.size
    text, words = network.config.get_text_config(), source.processor.tokenizer
    end = network.generation_config.eos_token_id
    end = text.eos_token_id if end is None else end
    end = int(end[0] if isinstance(end, (list, tuple)) else end)
    return Phrasing(
        source.processor,
        to_pil_image(torch.zeros((3, height, width), dtype=torch.uint8)),
        picture=int(source.processor.image_token_id),
        end=end,
        filler=end if words.pad_token_id is None else int(words.pad_token_id),
        most=int(getattr(text, "max_position_embeddings", 1 << 20)),
    )


def _refuse_unlike_asked(learner: Writer) -> None:
    """Raises UserError where a question that stands behind another is not as probable an answer as when it is asked alone: of
    architectures that take no positions, or no word on who looks at whom."""
    turns, shape = [("one?", "a"), ("and two?", "b c")], (1, *learner.pictures.shape)
    pixels = torch.full(shape, 127, dtype=torch.uint8)
    learner.network.eval()
    with torch.inference_mode():
        together, alone = learner._packed([turns]), learner._packed([turns[1:]])
        try:
            both, one = learner._say(pixels, together)[0], learner._say(pixels, alone)[0]
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"--loss lm cannot train {learner.name}: {first_line(error)}") from None
    asked = (together.labels[0, 1:] != NOT_ASKED).nonzero()[-int((alone.labels[0, 1:] != NOT_ASKED).sum()) :, 0]
    as_asked = (alone.labels[0, 1:] != NOT_ASKED).nonzero()[:, 0]
    difference = float((both[asked].log_softmax(-1) - one[as_asked].log_softmax(-1)).abs().max())
    if difference > (_SAME_HALF if learner.half else _SAME):
        raise UserError(
            f"--loss lm cannot train {learner.name}: a question behind another one is not answered as when it is asked alone "
            f"(log probabilities differ by {difference:.3g})"
        )
