"""The contrastive losses of a batch of pairs: CLIP's, over softmax, and SigLIP's, over sigmoids, with their intervals."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.statistics.clustered import student_quantile

_NEARLY_ONE = 1 - 1e-12


@dataclass(frozen=True)
class Loss:
    """Mean loss over a batch of ``pairs``, and the mean probability it gives the matching text of an image.

    InfoNCE where ``bias`` is None, else the sigmoid loss of similarity / ``temperature`` + ``bias``.
    """

    temperature: float
    pairs: int
    loss: Interval
    match_probability: Interval
    bias: float | None = None

    @property
    def figures(self) -> list[Figure]:
        """The loss and the probability; the temperature of InfoNCE is part of their keys."""
        if self.bias is not None:
            values = {"sigmoid_loss": self.loss, "sigmoid_match_probability": self.match_probability}
            said = {"pairs": self.pairs, "scale": 1 / self.temperature, "bias": self.bias}
            return [metric(f"alignment.{name}", **said).figure(value) for name, value in values.items()]
        values = {"info_nce": self.loss, "match_probability": self.match_probability}
        return [
            metric(f"alignment.{name}_tau_{self.temperature:.4g}", pairs=self.pairs).figure(value)
            for name, value in values.items()
        ]


def match_probabilities(similarity: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """P(text j | image i) for similarities (n, n): the softmax of similarity / temperature over each row."""
    logits = similarity.astype(np.float64) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    probabilities = np.exp(logits)
    result: NDArray[np.float64] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return result


def info_nce(images: NDArray[np.float32], texts: NDArray[np.float32], temperature: float) -> Loss:
    """CLIP's symmetric contrastive loss (Radford et al. 2021, figure 3) of n pairs, row i of one with row i of the other.

    It depends on how many pairs compete, so ``pairs`` belongs to it.
    """
    similarity, n = images @ texts.T, len(images)
    probabilities = [match_probabilities(matrix, temperature) for matrix in (similarity, similarity.T)]
    least = np.finfo(np.float64).tiny
    own = [np.log(np.maximum(np.diagonal(matrix), least)) for matrix in probabilities]
    loss = -(own[0] + own[1]) / 2
    # Without pair j the others share out what it had: p becomes p / (1 − p_j).
    left = [np.log1p(-np.minimum(matrix, _NEARLY_ONE)) for matrix in probabilities]
    for matrix in left:
        np.fill_diagonal(matrix, 0.0)
    given = np.diagonal(probabilities[0])
    shares = given[:, None] * np.exp(-left[0])
    np.fill_diagonal(shares, 0.0)
    count = max(n - 1, 1)
    return Loss(
        temperature,
        n,
        _jackknifed(float(loss.mean()), (loss.sum() - loss + (left[0].sum(axis=0) + left[1].sum(axis=0)) / 2) / count),
        _jackknifed(float(given.mean()), shares.sum(axis=0) / count),
    )


def sigmoid_loss(images: NDArray[np.float32], texts: NDArray[np.float32], temperature: float, bias: float) -> Loss:
    """SigLIP's loss (Zhai et al. 2023, algorithm 1) of n pairs: −1/n Σᵢⱼ log σ(±(similarity / temperature + bias)), with
    plus for the n matching pairs, and the mean σ of these."""
    logits = (images @ texts.T).astype(np.float64) / temperature + bias
    n = len(images)
    losses = -log_expit(-logits)
    matched = np.diagonal(logits)
    np.fill_diagonal(losses, -log_expit(matched))
    others = losses.sum() - losses.sum(axis=0) - losses.sum(axis=1) + np.diagonal(losses)
    given, count = expit(matched), max(n - 1, 1)
    return Loss(
        temperature,
        n,
        _jackknifed(float(losses.sum() / n), others / count),
        _jackknifed(float(given.mean()), (given.sum() - given) / count),
        bias,
    )


def _jackknifed(value: float, without: NDArray[np.float64]) -> Interval:
    """A figure of n pairs with its interval, from the same ``without`` (n,) each of them (Efron and Stein 1981), with Student's
    t. One pair alone has no interval: it is [−∞, ∞]."""
    n = len(without)
    if n == 1:
        return Interval(value=value, low=-math.inf, high=math.inf, n=n)
    deviation = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    margin = student_quantile(n - 1) * deviation
    return Interval(value=value, low=value - margin, high=value + margin, n=n)
