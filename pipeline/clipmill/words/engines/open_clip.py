"""CoCa models of open_clip: captions by the decoder that looks at the picture. They take no prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional as F

from clipmill.core.text_manifests import GeneratorIdentity
from clipmill.encoders.preprocess import Preprocessing
from clipmill.words.protocol import Decoding, Finish, Prepared, Question, Said, Unanswerable


@dataclass(frozen=True)
class CocaGenerator:
    """A CoCa on ``device``, with the tokenizer that its captions are read back with."""

    network: Any
    preprocessing: Preprocessing
    tokenizer: Any
    identity: GeneratorIdentity
    device: torch.device

    @property
    def exact(self) -> bool:
        """All captions begin alike."""
        return False

    @cached_property
    def _marks(self) -> tuple[int, int]:
        """The tokens that begin and end a text."""
        tokens = self.tokenizer([""])[0]
        return int(tokens[0]), int(tokens.max())

    def prepare(self, question: Question) -> Prepared:
        """The picture as the model takes it."""
        if question.prompt or question.examples:
            raise Unanswerable("a CoCa writes captions and takes no prompt")
        return Prepared({"pixels": self.preprocessing.prepare(question.picture)[None]}, 0)

    def generate(self, batch: Sequence[Prepared], decoding: Decoding, seed: int) -> list[list[Said]]:
        """Token by token, each picture until its text ends."""
        random = torch.Generator(self.device).manual_seed(seed)
        begin, end = self._marks
        most = min(decoding.max_tokens, self.network.context_length - 2)
        with torch.inference_mode():
            latent, patches = self._pictures(batch, decoding.candidates)
            tokens = torch.full((len(latent), 1), begin, device=self.device)
            chosen: list[torch.Tensor] = []
            ended = torch.zeros(len(latent), dtype=torch.bool, device=self.device)
            while len(chosen) < most and not bool(ended.all()):
                found = self.network(None, tokens, image_latent=latent, image_embs=patches, output_labels=False)
                logits = found["logits"][:, -1].float()
                following = _drawn(logits, decoding, random)
                following = torch.where(ended, torch.full_like(following, end), following)
                chosen.append(F.log_softmax(logits, dim=-1).gather(1, following[:, None])[:, 0])
                tokens = torch.cat([tokens, following[:, None]], dim=1)
                ended |= following == end
        said = self._said(tokens[:, 1:], torch.stack(chosen, dim=1), end)
        return [said[at : at + decoding.candidates] for at in range(0, len(said), decoding.candidates)]

    def score(self, batch: Sequence[Prepared], choices: Sequence[str]) -> list[list[Said]]:
        """Each choice as the whole caption."""
        rows = [self._answer(choice) for choice in choices]
        found: list[torch.Tensor] = []
        with torch.inference_mode():
            latent, patches = self._pictures(batch, 1)
            for row in rows:
                tokens = torch.tensor(row, device=self.device).repeat(len(latent), 1)
                made = self.network(None, tokens[:, :-1], image_latent=latent, image_embs=patches, output_labels=False)
                each = F.log_softmax(made["logits"].float(), dim=-1).gather(2, tokens[:, 1:, None])[..., 0]
                found.append(each.mean(dim=1))
        means = torch.stack(found, dim=1).tolist()
        return [
            [Said(choice, len(row) - 1, mean, "choice") for choice, row, mean in zip(choices, rows, line, strict=True)]
            for line in means
        ]

    def _answer(self, choice: str) -> list[int]:
        tokens = self.tokenizer([choice])[0].tolist()
        return [int(token) for token in tokens[: tokens.index(self._marks[1]) + 1]]

    def _pictures(self, batch: Sequence[Prepared], each: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.cat([one.inputs["pixels"] for one in batch]).to(self.device)
        prepared = self.preprocessing.normalise(pixels).to(next(self.network.parameters()).dtype)
        found = self.network(prepared)
        latent, patches = found["image_features"], found["image_embs"]
        return latent.repeat_interleave(each, dim=0), patches.repeat_interleave(each, dim=0)

    def _said(self, tokens: torch.Tensor, chosen: torch.Tensor, end: int) -> list[Said]:
        said = []
        for row, probabilities in zip(tokens.tolist(), chosen, strict=True):
            length = row.index(end) + 1 if end in row else len(row)
            finish: Finish = "stop" if end in row else "length"
            text = self.tokenizer.decode([token for token in row[:length] if token != end])
            said.append(Said(text.strip(), length, float(probabilities[:length].mean()), finish))
        return said


def _drawn(logits: torch.Tensor, decoding: Decoding, random: torch.Generator) -> torch.Tensor:
    """The next token of each row of logits (n, vocabulary)."""
    if decoding.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = F.softmax(logits / decoding.temperature, dim=-1)
    if decoding.top_p < 1:
        ordered, places = probabilities.sort(dim=-1, descending=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= decoding.top_p
        probabilities = torch.zeros_like(probabilities).scatter(1, places, ordered.masked_fill(beyond, 0.0))
    return torch.multinomial(probabilities, 1, generator=random)[:, 0]
