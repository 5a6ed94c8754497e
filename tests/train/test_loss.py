"""The losses give the numbers they have on paper, and negatives and shared captions do what they should."""

import math

import pytest
import torch
from torch.nn import functional as F

from clipmill.train.loss import AlsoTrue, Candidates, clip_loss, match_probabilities, siglip_loss

IMAGES = F.normalize(torch.tensor([[0.577, 0.577, 0.577], [0.816, 0.408, 0.408], [0.0, 0.707, 0.707]]), dim=-1)
TEXTS = F.normalize(torch.tensor([[0.577, 0.577, 0.577], [0.707, 0.707, 0.0], [0.0, 0.707, 0.707]]), dim=-1)


def random_units(count: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def info_nce(
    images: torch.Tensor,
    texts: torch.Tensor,
    scale: torch.Tensor | float,
    negatives: torch.Tensor | None = None,
    also_true: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of a whole batch at once."""
    count = len(images)
    false = torch.empty(0, images.shape[1]) if negatives is None else negatives
    true = torch.zeros(count, count + len(false), dtype=torch.bool) if also_true is None else also_true
    candidates = Candidates(images, texts, false, torch.as_tensor(scale))
    return clip_loss(candidates, slice(0, count), AlsoTrue(true, true[:, :count].T))


def by_hand(images: torch.Tensor, texts: torch.Tensor, scale: float) -> float:
    """The definition, written with loops: minus the mean log probability of the pair, each way, averaged."""
    total = 0.0
    count = len(images)
    for one, other in ((images, texts), (texts, images)):
        for i in range(count):
            exponents = [math.exp(scale * float(one[i] @ other[j])) for j in range(len(other))]
            total -= math.log(exponents[i] / sum(exponents)) / count / 2
    return total


def test_the_worked_example() -> None:
    assert float(match_probabilities(IMAGES, TEXTS, 0.07)[0, 0]) == pytest.approx(0.87, abs=0.005)


def test_probabilities_of_an_image_sum_to_one() -> None:
    assert match_probabilities(IMAGES, TEXTS, 0.07).sum(dim=1).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("scale", [1.0, 1 / 0.07, 50.0])
def test_the_loss_is_the_mean_cross_entropy_of_both_directions(scale: float) -> None:
    assert float(info_nce(IMAGES, TEXTS, scale)) == pytest.approx(by_hand(IMAGES, TEXTS, scale), rel=1e-4)


def test_vectors_that_say_nothing_cost_the_logarithm_of_the_batch() -> None:
    same = random_units(1, 0).expand(7, 8)
    assert float(info_nce(same, same, 10.0)) == pytest.approx(math.log(7))


def test_negatives_compete_for_images_only() -> None:
    images, texts, negatives = random_units(5, 1), random_units(5, 2), random_units(3, 3)
    scale = 9.0
    expected = 0.0
    for i in range(5):
        over_all = sum(math.exp(scale * float(images[i] @ text)) for text in torch.cat([texts, negatives]))
        over_images = sum(math.exp(scale * float(texts[i] @ image)) for image in images)
        own = scale * float(images[i] @ texts[i])
        expected += (math.log(over_all) - own + math.log(over_images) - own) / 10
    assert float(info_nce(images, texts, scale, negatives)) == pytest.approx(expected, rel=1e-4)


def test_a_negative_is_pushed_away_from_the_image_it_resembles() -> None:
    images, texts = random_units(4, 4), random_units(4, 5)
    negatives = images[:1].clone().requires_grad_()
    info_nce(images, texts, 10.0, negatives).backward()
    assert negatives.grad is not None
    assert float(negatives.grad[0] @ images[0]) > 0  # descent lowers their product


def test_a_text_that_is_also_true_is_left_out() -> None:
    images, texts = random_units(4, 6), random_units(4, 7)
    texts[1] = texts[0]
    also_true = torch.zeros(4, 4, dtype=torch.bool)
    also_true[0, 1] = also_true[1, 0] = True
    texts = texts.clone().requires_grad_()
    info_nce(images, texts, 10.0, also_true=also_true).backward()
    gradient = texts.grad
    assert gradient is not None
    moved = images.clone()
    moved[0] = -images[0]
    texts.grad = None
    info_nce(moved, texts, 10.0, also_true=also_true).backward()
    assert torch.allclose(gradient[1], texts.grad[1], atol=1e-6)  # image 0 has no say in text 1


def test_a_pair_is_never_left_out() -> None:
    """Every row marks its own caption as true of it, which must not hide the pair itself."""
    everything = torch.eye(3, dtype=torch.bool)
    assert float(info_nce(IMAGES, TEXTS, 5.0, also_true=everything)) == pytest.approx(
        by_hand(IMAGES, TEXTS, 5.0), rel=1e-4
    )


def test_the_temperature_has_a_gradient() -> None:
    scale = torch.tensor(5.0, requires_grad=True)
    info_nce(IMAGES, TEXTS, scale).backward()
    assert scale.grad is not None
    assert float(scale.grad) != 0


def test_the_sigmoid_loss_asks_about_every_pair_on_its_own() -> None:
    images, texts, negatives = random_units(3, 8), random_units(3, 9), random_units(2, 10)
    scale, bias = 7.0, -4.0
    expected = 0.0
    for i in range(3):
        for j, text in enumerate([*texts, *negatives]):
            logit = scale * float(images[i] @ text) + bias
            expected += math.log(1 + math.exp(-logit if i == j else logit)) / 3
    candidates = Candidates(images, texts, negatives, torch.tensor(scale), torch.tensor(bias))
    nothing = AlsoTrue(torch.zeros(3, 5, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool))
    assert float(siglip_loss(candidates, slice(0, 3), nothing)) == pytest.approx(expected, rel=1e-4)


def test_shares_of_rows_sum_to_the_loss() -> None:
    images, texts, negatives = random_units(7, 1), random_units(7, 2), random_units(3, 3)
    candidates = Candidates(images, texts, negatives, torch.tensor(9.0), torch.tensor(-2.0))
    marked = torch.rand(7, 10, generator=torch.Generator().manual_seed(4)) < 0.2
    for loss in (clip_loss, siglip_loss):
        whole = loss(candidates, slice(0, 7), AlsoTrue(marked, marked[:, :7].T))
        parts = [
            loss(candidates, rows, AlsoTrue(marked[rows], marked[:, :7].T[rows])) for rows in (slice(0, 3), slice(3, 7))
        ]
        assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-5)
