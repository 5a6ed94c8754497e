"""The schedule rises and falls as said, decay spares gains and biases, the temperature stays in bounds."""

import itertools
import math

import pytest
import torch

from clipmill.train.optimise import learning_rate_at, make_optimiser, move


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Linear(3, 2)
        self.gain = torch.nn.LayerNorm(2)
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(99.0)))


def test_the_rate_rises_straight_and_falls_along_a_cosine() -> None:
    rates = [learning_rate_at(step, 110, 10, 2.0) for step in range(110)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.001
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))


def test_a_warm_up_longer_than_the_run_is_cut() -> None:
    assert [learning_rate_at(step, 4, 100, 1.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_only_matrices_decay() -> None:
    network = Small()
    optimiser = make_optimiser(network, 0.1, 0.5)
    loss = sum((weight * 0).sum() for weight in network.parameters())
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    move(network, optimiser, loss, 0.1)
    after = dict(network.named_parameters())
    assert torch.allclose(after["matrix.weight"], before["matrix.weight"] * (1 - 0.1 * 0.5))
    for name in ("matrix.bias", "gain.weight", "gain.bias", "logit_scale"):
        assert torch.equal(after[name], before[name])


def test_the_temperature_does_not_fall_below_a_hundredth() -> None:
    network = Small()
    optimiser = make_optimiser(network, 1.0, 0.0)
    for _ in range(3):
        move(network, optimiser, -network.logit_scale, 1.0)
    assert float(network.logit_scale.detach().exp()) == pytest.approx(100, rel=1e-5)
