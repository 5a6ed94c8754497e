"""Captioning learns from every token of every caption alike, however the batch is cut; and its decoder is part of the model."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, ModelSettings, TrainSettings
from clipmill.encoders.model import load_model
from clipmill.runs.stages import train_stage
from clipmill.train.captioning import WEIGHT, caption_backward
from clipmill.train.towers import make_towers
from clipmill.train.workers import Alone
from threaded import Threaded, in_threads
from tiny_coca import COCA

PAIRS, WORDS, LENGTH, PADDING = 7, 9, 6, 0


class Net(torch.nn.Module):
    """Says the next token from the picture and the last one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.eye = torch.nn.Linear(4, WORDS).double()
        self.mouth = torch.nn.Embedding(WORDS, WORDS).double()

    def say(self, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.eye(pixels)[:, None] + self.mouth(tokens[:, :-1]), tokens[:, 1:]


def data() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(2)
    tokens = torch.randint(1, WORDS, (PAIRS, LENGTH), generator=random)
    for row, length in enumerate((6, 3, 2, 5, 4, 6, 2)):
        tokens[row, length:] = PADDING
    return torch.randn(PAIRS, 4, generator=random, dtype=torch.float64), tokens


def by_definition() -> tuple[float, list[torch.Tensor]]:
    """Token by token, and by automatic differentiation."""
    net, (pixels, tokens) = Net(), data()
    nats = []
    for picture, caption in zip(pixels, tokens, strict=True):
        for before, word in pairwise(caption):
            if word != PADDING:
                logits = net.eye(picture) + net.mouth(before)
                nats.append(torch.logsumexp(logits, 0) - logits[word])
    loss = WEIGHT * sum(nats) / len(nats)
    loss.backward()
    return loss.item(), [weight.grad for weight in net.parameters() if weight.grad is not None]


def assert_same(found: tuple[float, Sequence[torch.Tensor]]) -> None:
    loss, gradients = by_definition()
    assert found[0] == pytest.approx(loss, rel=1e-12)
    for one, other in zip(found[1], gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("micro_batch", [100, 3, 1])
def test_micro_batches_give_the_gradient_of_the_whole(micro_batch: int) -> None:
    net, (pixels, tokens) = Net(), data()
    loss = caption_backward(net.say, pixels, tokens, PADDING, micro_batch, 0, Alone())
    assert_same((loss, [weight.grad for weight in net.parameters() if weight.grad is not None]))


def test_captions_of_unequal_length_count_alike_on_two_workers() -> None:
    """The first worker has 3 pictures with 8 tokens to say, the other 4 with 13: a mean of their means would be wrong."""
    nets, (pixels, tokens) = [Net(), Net()], data()
    mine = (slice(0, 3), slice(3, PAIRS))

    def work(workers: Threaded) -> float:
        some = mine[workers.rank]
        return caption_backward(nets[workers.rank].say, pixels[some], tokens[some], PADDING, 2, 0, workers)

    losses = in_threads(2, work)
    assert losses[0] == losses[1]
    gradients = [
        one.grad + other.grad
        for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True)
        if one.grad is not None and other.grad is not None
    ]
    assert_same((losses[0], gradients))


def settings(folder: Path, scenes: str, **options: Any) -> TrainSettings:
    architecture = folder / "architecture"
    architecture.mkdir(exist_ok=True)
    (architecture / "open_clip_config.json").write_text(json.dumps(options.pop("config", COCA)))
    values = {"input": scenes, "model": str(architecture), "batch_size": 16, "warmup_steps": 0, "learning_rate": 3e-3}
    return TrainSettings(output=str(folder / "model"), loss="coca", **{**values, **options})


def test_a_decoder_learns_and_is_saved_with_the_model(scenes: str, tmp_path: Path) -> None:
    made = settings(tmp_path, scenes, steps=40, micro_batch=6)
    train_stage(made, ClusterSettings(device="cpu"), Silent())
    record = json.loads((tmp_path / "model/training.json").read_text())
    first, last = record["losses"][0]["loss"], record["losses"][-1]["loss"]
    assert last < first - 1
    weights = load_file(tmp_path / "model/open_clip_model.safetensors")
    assert any(name.startswith("text_decoder.") for name in weights)
    network = open_clip.create_model(f"local-dir:{tmp_path / 'model'}")
    torch.testing.assert_close(
        network.state_dict()["text_decoder.text_projection"], weights["text_decoder.text_projection"]
    )
    model = load_model(ModelSettings(pretrained=str(tmp_path / "model")), "cpu")
    assert model.encode_texts(["a red circle"]).shape == (1, 32)


def test_a_fresh_decoder_has_no_weight_that_was_left_as_memory_was(
    scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memory that holds no numbers: every weight is one all the same, and those of a seed are the same."""
    plain = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **options: plain(*size, **options).fill_(float("nan")))
    made = [make_towers(settings(tmp_path, scenes, steps=1), torch.device("cpu")).whole() for _ in range(2)]
    for name, weight in made[0].items():
        assert torch.isfinite(weight.float()).all(), name
        assert torch.equal(weight, made[1][name]), name


def test_a_model_without_a_decoder_is_refused(scenes: str, tmp_path: Path) -> None:
    plain = {**COCA, "model_cfg": {key: value for key, value in COCA["model_cfg"].items() if key != "multimodal_cfg"}}
    plain["model_cfg"]["vision_cfg"] = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    plain["model_cfg"]["text_cfg"] = {"context_length": 36, "vocab_size": 4514, "width": 32, "heads": 2, "layers": 1}
    made = settings(tmp_path, scenes, steps=1, config=plain)
    with pytest.raises(
        UserError, match=r"--loss coca trains a decoder that writes captions, and .* has none.*coca_ViT"
    ):
        train_stage(made, ClusterSettings(device="cpu"), Silent())
    assert not (tmp_path / "model").exists()
