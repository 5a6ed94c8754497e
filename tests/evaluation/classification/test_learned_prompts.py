"""Learned prompts begin at zero-shot classification, end above it, and leave the model as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, EvaluateSettings, ModelSettings, SampleSettings
from clipmill.encoders.model import ClipModel, load_model
from clipmill.evaluation.classification.learned_prompts import STEPS, PromptTower, learn_prompts
from clipmill.evaluation.classification.probe import Examples
from clipmill.runs.stages import embed_stage, evaluate_stage
from clipmill.scenes.dataset import write_scenes

NAMES = ("small red circle", "large red circle", "tiny red circle")
"""So alike that images near them are confused under a context that is not theirs."""


@pytest.fixture(scope="module")
def model() -> ClipModel:
    return load_model(ModelSettings(), "cpu")


@pytest.fixture(scope="module")
def tower(model: ClipModel) -> PromptTower:
    made = PromptTower.of(model.network, model.tokenizer, model.device, 20.0, model.identity.dimension)
    assert made is not None
    return made


def test_the_first_context_is_that_of_the_plain_prompt(model: ClipModel, tower: PromptTower) -> None:
    tokens = tower.tokens(NAMES)
    expected = model.encode_texts([f"a photo of a {name}" for name in NAMES])
    np.testing.assert_allclose(tower.classes(tokens, tower.words(tokens)).numpy(), expected, atol=1e-5)


def test_another_context_gives_other_vectors_and_the_next_call_is_not_touched_by_it(
    model: ClipModel, tower: PromptTower
) -> None:
    tokens = tower.tokens(NAMES)
    other = tower.classes(tokens, tower.words(tokens) + shift(tower, 1)).numpy()
    plain = model.encode_texts([f"a photo of a {name}" for name in NAMES])
    assert np.abs(other - plain).max() > 0.01
    np.testing.assert_array_equal(model.encode_texts([f"a photo of a {name}" for name in NAMES]), plain)


def shift(tower: PromptTower, seed: int) -> torch.Tensor:
    """Vectors as long as the words' own, about."""
    width = tower.words(tower.tokens(NAMES)).shape[1]
    return torch.randn(4, width, generator=torch.Generator().manual_seed(seed)) * 0.5


def noisy(vectors: np.ndarray, count: int, seed: int) -> Examples:
    random = np.random.default_rng(seed)
    classes = np.arange(count) % len(vectors)
    images = vectors[classes] + 0.05 * random.standard_normal((count, vectors.shape[1]))
    return Examples((images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32), classes)


def test_a_context_that_was_there_is_found_again(tower: PromptTower) -> None:
    """Images lie at the classes' vectors under a context that only the test knows: zero-shot confuses them."""
    tokens = tower.tokens(NAMES)
    truth = tower.classes(tokens, tower.words(tokens) + shift(tower, 7)).numpy()
    test = noisy(truth, 1000, 2)
    plain = tower.classes(tokens, tower.words(tokens)).numpy()
    seen: list[int] = []
    learned = learn_prompts(tower, NAMES, noisy(truth, 300, 0), noisy(truth, 300, 1), 0, seen.append)

    def accuracy(vectors: np.ndarray) -> float:
        return float(np.mean((test.vectors @ vectors.T).argmax(axis=1) == test.classes))

    assert sum(seen) == STEPS
    assert np.allclose(np.linalg.norm(learned, axis=1), 1, atol=1e-5)
    best = accuracy(truth)
    assert accuracy(plain) < best - 0.1
    assert accuracy(learned) > best - 0.03


def test_no_weight_of_the_model_is_moved(tower: PromptTower) -> None:
    before = {name: tensor.clone() for name, tensor in tower.network.state_dict().items()}
    examples = noisy(tower.classes(tower.tokens(NAMES), tower.words(tower.tokens(NAMES))).numpy(), 30, 3)
    learn_prompts(tower, NAMES, examples, examples, 0)
    for name, tensor in tower.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(weight.grad is None for weight in tower.network.parameters())


def test_a_tower_without_word_vectors_or_temperature_learns_none(model: ClipModel) -> None:
    rest = (model.tokenizer, model.device)
    assert PromptTower.of(torch.nn.Linear(2, 2), *rest, 10.0, 4) is None
    assert PromptTower.of(model.network, *rest, None, 4) is None


def test_a_report_has_learned_prompts_beside_the_probe_and_zero_shot(tmp_path: Path) -> None:
    write_scenes(SampleSettings(output=str(tmp_path / "scenes"), rows=200, split="held-out", image_size=64), Silent())
    embed = EmbedSettings(input=str(tmp_path / "scenes"), output=str(tmp_path / "vectors"))
    embed_stage(embed, ClusterSettings(device="cpu"), Silent())
    settings = EvaluateSettings(
        embeddings=embed.output, output=str(tmp_path / "report"), label_column="size", learn_prompts=True
    )
    report = evaluate_stage(settings, Silent()).manifest
    assert report.probe is not None
    keys = [figure.key for figure in report.probe.figures]
    assert keys[:3] == [
        "probe.linear_probe_acc1",
        "probe.linear_probe_mean_per_class_recall",
        "probe.learned_prompts_acc1",
    ]
    learned = report.probe.figures[2]
    assert report.probe.zero_shot is not None
    assert learned.value >= report.probe.zero_shot.value
    assert "Learned prompts" in (tmp_path / "report/report.html").read_text()
