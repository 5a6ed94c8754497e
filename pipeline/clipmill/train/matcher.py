"""A model of transformers that learns to tell whether a text is true of a picture: BLIP's image–text matching.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training" (2022), section 3.2: two towers learn by contrast, and an encoder
that reads the text while it looks at the picture tells pairs from near misses. A near miss of a picture is one of the batch's
texts that are not true of it, drawn in proportion to how probable the towers find it, so the hardest come most often.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from clipmill.core.errors import UserError
from clipmill.core.settings import TrainSettings
from clipmill.train.batches import Batch
from clipmill.train.gradient import Tower, backward
from clipmill.train.learner import Weights
from clipmill.train.loss import clip_loss
from clipmill.train.next_token import Pieces
from clipmill.train.processed import Processed
from clipmill.train.processed_learner import ProcessedLearner, computes_in_half
from clipmill.train.rows import Example
from clipmill.train.truth import Part, Truth
from clipmill.train.validate import Validation, validate
from clipmill.train.workers import Workers

_START_SCALE = 1 / 0.07
"""Inverse temperature of the contrastive half at first, as CLIP's; no part of the model, which keeps none."""
_VALIDATED = 64


@dataclass(frozen=True)
class Matcher(ProcessedLearner):
    """A `BlipForImageTextRetrieval` that learns. ``logit_scale`` is registered on the network while it is trained."""

    def scale(self) -> torch.Tensor:
        """The inverse temperature, a scalar with a gradient."""
        scale: torch.Tensor = self.network.logit_scale.exp()
        return scale

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts as int64 (n, length) on the device."""
        if not texts:
            return torch.empty((0, 1), dtype=torch.int64, device=self.device)
        words = self.source.processor.tokenizer
        longest = self.network.config.text_config.max_position_embeddings
        made = words(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        ids: torch.Tensor = made["input_ids"].to(self.device)
        return ids

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit vectors, float32 (n, d), of prepared pictures."""
        with self.autocast():
            features: torch.Tensor = self.network.vision_proj(self._seen(pixels)[:, 0])
        return F.normalize(features.float(), dim=-1)

    def encode_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unit vectors, float32 (n, d), of token ids."""
        with self.autocast():
            read = self.network.text_encoder(input_ids=tokens, attention_mask=self._there(tokens))
            features = self.network.text_proj(read.last_hidden_state[:, 0])
        unit: torch.Tensor = F.normalize(features.float(), dim=-1)
        return unit

    def match(self, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits, float32 (n, 2), that the texts are not true of the pictures, and that they are. Where there are several times
        as many texts as pictures, the pictures come again in the same order."""
        with self.autocast():
            seen = self._seen(pixels).repeat(len(tokens) // len(pixels), 1, 1)
            read = self.network.text_encoder(
                input_ids=tokens,
                attention_mask=self._there(tokens),
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.int64, device=self.device),
            )
            logits: torch.Tensor = self.network.itm_head(read.last_hidden_state[:, 0])
        return logits.float()

    def _seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the vision tower makes of pictures, (n, patches, width)."""
        found: torch.Tensor = self.network.vision_model(self.source.values(pixels, self.network)).last_hidden_state
        return found

    def _there(self, tokens: torch.Tensor) -> torch.Tensor:
        there: torch.Tensor = tokens != self.source.processor.tokenizer.pad_token_id
        return there.to(torch.int64)

    def backward(
        self, step: int, batch: Batch, parts: Sequence[Part], workers: Workers, statistics: Sequence[torch.Tensor]
    ) -> float:
        """The contrastive loss, and the mean cross-entropy of every picture's own text and of one near miss."""
        count, size = len(batch.texts), self.settings.micro_batch or len(batch.texts)
        seed = (self.settings.seed * 1_000_003 + step) * 1_009 + workers.rank
        texts, pixels = self.tokens([*batch.texts, *batch.negatives]), batch.pixels.to(self.device)
        truth = Truth(parts)
        towers = Tower(self.encode_pixels, pixels, size, seed), Tower(self.encode_tokens, texts, size, seed)
        loss = backward(*towers, count, truth, clip_loss, self.scale, None, workers, statistics)
        near = self._near_misses(step, batch, pixels, truth, workers)
        return loss + self._matching_backward(batch.texts, near, pixels, Pieces(count, size, seed), workers)

    def _near_misses(
        self, step: int, batch: Batch, pixels: torch.Tensor, truth: Truth, workers: Workers
    ) -> list[str | None]:
        """For each picture of this worker one of all workers' texts that is not true of it; None where all are."""
        all_texts = [text for part in workers.tell(batch.texts) for text in part]
        before = sum(len(part.texts) for part in truth.parts[: workers.rank])
        with torch.no_grad():
            mine = torch.cat([self.encode_pixels(some) for some in pixels.split(_VALIDATED)])
            theirs = torch.cat(
                [
                    self.encode_tokens(self.tokens(all_texts[at : at + _VALIDATED]))
                    for at in range(0, len(all_texts), _VALIDATED)
                ]
            )
            logits = self.scale() * mine @ theirs.T
        true, _ = truth.rows(slice(before, before + len(pixels)))
        probable = logits.double().cpu().masked_fill(true[:, : len(all_texts)], float("-inf"))
        found: list[str | None] = []
        for row, of_row in enumerate(probable.numpy()):
            drawn = np.random.default_rng((self.settings.seed, step, before + row)).gumbel(size=len(of_row))
            best = int((of_row + drawn).argmax())
            found.append(all_texts[best] if np.isfinite(of_row[best]) else None)
        return found

    def _matching_backward(
        self, own: Sequence[str], near: Sequence[str | None], pixels: torch.Tensor, pieces: Pieces, workers: Workers
    ) -> float:
        asked = torch.tensor(len(own) + sum(text is not None for text in near), dtype=torch.float64, device=self.device)
        workers.sum([asked])
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for rows in pieces:
            missed = near[rows]
            tokens = self.tokens([*own[rows], *(text or "" for text in missed)])
            count = len(missed)
            true = torch.tensor([1] * count + [0 if text is not None else -100 for text in missed], device=self.device)
            nats = F.cross_entropy(self.match(pixels[rows], tokens), true, ignore_index=-100, reduction="sum")
            share = nats / asked.to(nats.dtype)
            share.backward()
            total += share.detach()
        workers.sum([total])
        return float(total)

    def validate(self, examples: Iterable[Example], templates: Sequence[str]) -> Validation:
        """Retrieval by the towers, and how often the head tells a picture's text from that of the picture before it."""
        told: list[bool] = []

        def passing() -> Iterator[Example]:
            """The examples, told apart some at a time on their way."""
            some: list[Example] = []
            for example in examples:
                some.append(example)
                if len(some) == _VALIDATED:
                    told.extend(self._told_apart(some))
                    some = []
                yield example
            told.extend(self._told_apart(some))

        found = validate(passing(), self._encoded, lambda texts: self.encode_tokens(self.tokens(texts)).cpu())
        return replace(found, matching=float(np.mean(told)) if told else None)

    def _encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.encode_pixels(pixels).cpu()

    def _told_apart(self, examples: Sequence[Example]) -> list[bool]:
        """Of every picture whether its first text is found more probable than that of the one before."""
        if len(examples) < 2:
            return []
        pixels, texts = torch.stack([one.pixels for one in examples]), [one.captions[0] for one in examples]
        others = [texts[at - 1] for at in range(len(texts))]
        logits = self.match(pixels.to(self.device), self.tokens([*texts, *others])).softmax(dim=-1)[:, 1]
        told: list[bool] = (logits[: len(texts)] > logits[len(texts) :]).tolist()
        asked = zip(told, examples, others, strict=True)
        return [right for right, example, other in asked if other not in example.captions]

    def whole(self) -> Weights:
        """The weights of the model, which has no temperature, on the CPU, as a copy."""
        weights = super().whole()
        weights.pop("logit_scale")
        return weights

    def measures(self) -> dict[str, float]:
        """The inverse temperature."""
        return {"logit_scale": round(float(self.scale().detach()), 4)}


def make_matcher(settings: TrainSettings, device: torch.device) -> Matcher:
    """The network that the settings name. Raises UserError as `Processed.find` and `Processed.network` do, and for a model
    without a matching head."""
    source = find_matcher(settings)
    from transformers import BlipForImageTextRetrieval

    network = source.network(BlipForImageTextRetrieval, settings)
    network.logit_scale = torch.nn.Parameter(torch.tensor(_START_SCALE).log())
    return Matcher(network.to(device), source, device, computes_in_half(settings, device), settings)


def find_matcher(settings: TrainSettings) -> Processed:
    """The model without its weights. Raises UserError as `Processed.find`, and for one without a matching head."""
    source = Processed.find(settings)
    from transformers import AutoConfig  # not before it is known to be installed

    kind = AutoConfig.from_pretrained(source.folder, local_files_only=True).model_type
    if kind != "blip":
        raise UserError(
            f"--loss itm trains models that match pictures and texts with a head of their own, BLIP's "
            f"BlipForImageTextRetrieval, and {source.name} is of the type {kind!r}"
        )
    return source
