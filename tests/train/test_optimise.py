"""The schedule rises and falls as said, decay spares gains and biases, the temperature stays in bounds."""

import itertools
import math

import pytest
import torch

from clipmill.train.optimise import Average, Rates, clip_gradients, learning_rate_at, make_optimiser, move, trained


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = torch.nn.Linear(3, 2)
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
    optimiser = make_optimiser(network, Rates(0.1, {}), 0.5)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    sum((weight * 0).sum() for weight in network.parameters()).backward()
    move(network, optimiser, 1.0)
    after = dict(network.named_parameters())
    assert torch.allclose(after["matrix.weight"], before["matrix.weight"] * (1 - 0.1 * 0.5))
    for name in ("matrix.bias", "gain.weight", "gain.bias", "logit_scale"):
        assert torch.equal(after[name], before[name])


def test_the_temperature_does_not_fall_below_a_hundredth() -> None:
    network = Small()
    optimiser = make_optimiser(network, Rates(1.0, {}), 0.0)
    for _ in range(3):
        optimiser.zero_grad()
        (-network.logit_scale).backward()
        move(network, optimiser, 1.0)
    assert float(network.logit_scale.detach().exp()) == pytest.approx(100, rel=1e-5)


def test_parts_move_at_their_own_rates() -> None:
    """The first step of Adam is as long as the rate, whatever the gradient."""
    network = Small()
    network.logit_scale.data.fill_(1.0)
    optimiser = make_optimiser(network, Rates(0.01, {"image": 0.0, "temperature": 10.0}), 0.0)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    sum(weight.sum() for weight in network.parameters()).backward()
    move(network, optimiser, 0.5)
    moved = {name: float((before[name] - weight).abs().max()) for name, weight in network.named_parameters()}
    assert moved["visual.weight"] == 0
    assert moved["matrix.weight"] == pytest.approx(0.005, rel=1e-3)
    assert moved["logit_scale"] == pytest.approx(0.05, rel=1e-3)


def test_a_gradient_is_shortened_to_one_and_its_length_told() -> None:
    network = Small()
    optimiser = make_optimiser(network, Rates(1.0, {}), 0.0)
    sum(weight.sum() for weight in network.parameters()).backward()
    count = sum(weight.numel() for weight in network.parameters())
    assert clip_gradients(trained(optimiser)) == pytest.approx(math.sqrt(count), rel=1e-5)
    assert sum(float(weight.grad.square().sum()) for weight in trained(optimiser)) == pytest.approx(1, rel=1e-4)


def test_the_average_follows_slowly() -> None:
    network = Small()
    network.matrix.bias.data.fill_(1.0)
    average = Average(network, 0.9)
    for value in (2.0, 3.0):
        network.matrix.bias.data.fill_(value)
        average.update(network)
    assert average.weights["matrix.bias"].tolist() == pytest.approx([0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 3] * 2)
