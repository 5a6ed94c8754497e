"""However a batch is cut, over workers or into micro-batches, its gradient is that of the whole batch at once."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from clipmill.train.gradient import Tower, backward, sum_gradients
from clipmill.train.loss import LOSSES
from clipmill.train.truth import Part, Truth
from clipmill.train.workers import Alone, Group, Workers

PAIRS, NEGATIVES, SIZE = 12, 5, 6
CAPTIONS = ["a", "b", "c", "a", "d", "e", "f", "g", "b", "h", "i", "j"]
"""Images 0 and 3 share a caption, and 1 and 8: each text is also true of the other's image."""
FALSE = ["x", "a", "y", "z", "c"]


class Net(torch.nn.Module):
    """Two small towers with a dropout-free hidden layer, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.image = torch.nn.Sequential(torch.nn.Linear(SIZE, 8), torch.nn.GELU(), torch.nn.Linear(8, 5)).double()
        self.text = torch.nn.Sequential(torch.nn.Linear(SIZE, 8), torch.nn.GELU(), torch.nn.Linear(8, 5)).double()
        self.logit_scale = torch.nn.Parameter(torch.tensor(1.7, dtype=torch.float64))
        self.logit_bias = torch.nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))

    def vectors(self, tower: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda inputs: F.normalize(tower(inputs), dim=-1)


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(8)
    return tuple(  # type: ignore[return-value]
        torch.randn(count, SIZE, generator=random, dtype=torch.float64) for count in (PAIRS, PAIRS, NEGATIVES)
    )


def by_definition(loss: str) -> tuple[float, list[torch.Tensor]]:
    """The loss of the whole batch, written out pair by pair, and its gradient by automatic differentiation."""
    net, (pictures, texts, false) = Net(), data()
    images = net.vectors(net.image)(pictures)
    words = net.vectors(net.text)(torch.cat([texts, false]))
    names = CAPTIONS + FALSE
    logits = net.logit_scale.exp() * images @ words.T + (net.logit_bias if loss == "siglip" else 0)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(PAIRS):
        others = [j for j in range(len(names)) if j != i and names[j] != CAPTIONS[i]]
        if loss == "siglip":
            total = total - F.logsigmoid(logits[i, i]) - sum(F.logsigmoid(-logits[i, j]) for j in others)
            continue
        images_for = [k for k in range(PAIRS) if k != i and CAPTIONS[k] != CAPTIONS[i]]
        to_texts = torch.logsumexp(torch.stack([logits[i, i], *(logits[i, j] for j in others)]), 0) - logits[i, i]
        to_images = torch.logsumexp(torch.stack([logits[i, i], *(logits[k, i] for k in images_for)]), 0) - logits[i, i]
        total = total + (to_texts + to_images) / 2
    total = total / PAIRS
    total.backward()
    return float(total), gradients(net)


def gradients(net: torch.nn.Module) -> list[torch.Tensor]:
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in net.parameters()]


def by_parts(loss: str, micro_batch: int, workers: Workers) -> tuple[float, list[torch.Tensor]]:
    """The same by what a worker computes of its part."""
    net, (pictures, texts, false) = Net(), data()
    mine = slice(workers.rank * PAIRS // workers.count, (workers.rank + 1) * PAIRS // workers.count)
    also = slice(workers.rank * NEGATIVES // workers.count, (workers.rank + 1) * NEGATIVES // workers.count)
    part = Part.of(CAPTIONS[mine], FALSE[also], [(caption,) for caption in CAPTIONS[mine]])
    value = backward(
        Tower(net.vectors(net.image), pictures[mine], micro_batch, 0),
        Tower(net.vectors(net.text), torch.cat([texts[mine], false[also]]), micro_batch, 0),
        mine.stop - mine.start,
        Truth(workers.tell(part)),
        LOSSES[loss],
        lambda: net.logit_scale.exp(),
        net.logit_bias if loss == "siglip" else None,
        workers,
    )
    sum_gradients(list(net.parameters()), workers)
    return value, gradients(net)


def assert_same(found: tuple[float, list[torch.Tensor]], expected: tuple[float, list[torch.Tensor]]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    for one, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("micro_batch", [100, 5, 1])
def test_micro_batches_give_the_gradient_of_the_whole(loss: str, micro_batch: int) -> None:
    assert_same(by_parts(loss, micro_batch, Alone()), by_definition(loss))


def _worker(rank: int, count: int, place: str, results: Any, cases: list[tuple[str, int]]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=count)
    for loss, micro_batch in cases:
        value, found = by_parts(loss, micro_batch, Group())
        results.put((rank, loss, micro_batch, value, [tensor.tolist() for tensor in found]))
    dist.destroy_process_group()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_workers_give_the_gradient_of_one_with_the_whole_batch(count: int, tmp_path: Path) -> None:
    """Parts of unequal size among them: 5 negatives over 2, 3 or 4 workers."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    cases = [(loss, micro_batch) for loss in LOSSES for micro_batch in (100, 2)]
    arguments = [(rank, count, str(tmp_path / "meeting"), results, cases) for rank in range(count)]
    processes = [context.Process(target=_worker, args=one) for one in arguments]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in range(count * len(cases))]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for _, loss, _, value, lists in found:
        assert_same((value, [torch.tensor(one, dtype=torch.float64) for one in lists]), by_definition(loss))
    assert len({(rank, loss, micro) for rank, loss, micro, *_ in found}) == count * len(cases)


def test_a_micro_batch_draws_the_same_dropout_both_times() -> None:
    """In both passes the same elements are dropped: the gradient is that of the vectors that the loss saw."""
    kept: list[torch.Tensor] = []
    weight = torch.nn.Parameter(torch.ones(SIZE))

    def encode(inputs: torch.Tensor) -> torch.Tensor:
        dropped = F.dropout(inputs * weight + 10, 0.5)
        kept.append(dropped.detach() != 0)
        return F.normalize(dropped, dim=-1)

    inputs = torch.randn(8, SIZE)
    texts = torch.randn(8, SIZE)
    names = [str(number) for number in range(8)]
    backward(
        Tower(encode, inputs, 3, 5),
        Tower(lambda rows: F.normalize(rows, dim=-1), texts, 3, 5),
        8,
        Truth([Part.of(names, [], [(name,) for name in names])]),
        LOSSES["clip"],
        lambda: torch.tensor(2.0),
        None,
        Alone(),
    )
    assert len(kept) == 6
    assert all(torch.equal(first, again) for first, again in zip(kept[:3], kept[3:], strict=True))
    assert not torch.equal(kept[0], kept[1])


def test_statistics_of_batch_normalisation_move_once_a_step() -> None:
    norm = torch.nn.BatchNorm1d(SIZE)
    inputs, texts = torch.randn(8, SIZE), torch.randn(8, SIZE)
    names = [str(number) for number in range(8)]

    def run(micro_batch: int) -> list[torch.Tensor]:
        norm.reset_running_stats()
        statistics = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
        found = [tensor for tensor in statistics if tensor is not None]
        truth = Truth([Part.of(names, [], [(name,) for name in names])])
        images = Tower(lambda rows: F.normalize(norm(rows), dim=-1), inputs, micro_batch, 0)
        words = Tower(lambda rows: F.normalize(rows, dim=-1), texts, 100, 0)
        backward(images, words, 8, truth, LOSSES["clip"], lambda: torch.tensor(2.0), None, Alone(), found)
        return [tensor.clone() for tensor in found]

    assert int(run(100)[2]) == 1
    halves = run(4)
    assert int(halves[2]) == 2
    expected = torch.zeros(SIZE)
    for half in inputs.split(4):
        expected = 0.9 * expected + 0.1 * half.mean(0)
    torch.testing.assert_close(halves[0], expected)
