"""Pictures of a unit decoded one after the other, or with their JPEGs decoded on a GPU many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
from torchvision.io import ImageReadMode, decode_jpeg

from clipmill.core.errors import RunFailed
from clipmill.core.gpus import fake_gpus, torch_and_driver, torch_sees_cuda
from clipmill.source.decode import PlainJpeg, Rejected, decode_image, plain_jpeg

JpegDecoder = Callable[[Sequence[bytes]], list[torch.Tensor]]
"""Some JPEGs to uint8 RGB (3, height, width) each, as they are stored, on any device. Raises RuntimeError where it refuses
one of them."""

Given = bytes | Rejected | None
"""The bytes of a picture, why there are none, or that none was meant to be."""
Decoded = torch.Tensor | Rejected | None

JPEGS_AT_ONCE = 64
PIXELS_AT_ONCE = 64 << 20
"""Of the JPEGs that a GPU decodes at once: 200 MB. A single larger one is decoded on cores."""


def jpeg_decoder() -> JpegDecoder:
    """That of this process's GPU. Raises RunFailed where it has none."""
    if not fake_gpus() and not torch_sees_cuda():
        raise RunFailed(f"--decode gpu: this process finds no CUDA ({torch_and_driver()}); give --decode cpu")
    device = "cuda" if torch_sees_cuda() else "cpu"

    def decode(jpegs: Sequence[bytes]) -> list[torch.Tensor]:
        """By torchvision, which announces the end of its decoding: what is to take its place takes that of this function."""
        stored = [torch.frombuffer(bytearray(jpeg), dtype=torch.uint8) for jpeg in jpegs]
        decoded: list[torch.Tensor] = decode_jpeg(stored, mode=ImageReadMode.RGB, device=device)
        return decoded

    return decode


def decode_all(
    pictures: Iterable[Given], max_pixels: int, jpegs: JpegDecoder | None = None
) -> Iterator[tuple[Given, Decoded]]:
    """Each of what is given, in order, with the picture as `decode_image` gives it, or why there is none.

    Without ``jpegs`` one picture is in memory at a time. With it, whole JPEGs of usual colours are decoded by that and stay
    where it puts them; what it refuses, and everything else, is decoded on cores.
    """
    waiting = iter(pictures)
    while run := list(islice(waiting, 1 if jpegs is None else JPEGS_AT_ONCE)):
        found = _by_gpu(run, max_pixels, jpegs) if jpegs else {}
        for at, given in enumerate(run):
            yield given, found.pop(at) if at in found else _on_cores(given, max_pixels)


def _on_cores(given: Given, max_pixels: int) -> Decoded:
    if not isinstance(given, bytes):
        return given
    try:
        return decode_image(given, max_pixels)
    except Rejected as rejected:
        return rejected


def _by_gpu(run: Sequence[Given], max_pixels: int, jpegs: JpegDecoder) -> dict[int, Decoded]:
    """Those of a run that the decoder takes, by their place in it."""
    plain: dict[int, tuple[bytes, PlainJpeg]] = {}
    for at, given in enumerate(run):
        if isinstance(given, bytes):
            try:
                header = plain_jpeg(given, max_pixels)
            except Rejected:
                continue  # told once more where it is decoded on cores
            if header and header.pixels <= PIXELS_AT_ONCE:
                plain[at] = given, header
    found: dict[int, Decoded] = {}
    for part in _of_few_pixels(plain):
        decoded = _without_refused([plain[at][0] for at in part], jpegs)
        found |= {at: plain[at][1].upright(one) for at, one in zip(part, decoded, strict=True) if one is not None}
    return found


def _of_few_pixels(plain: dict[int, tuple[bytes, PlainJpeg]]) -> Iterator[list[int]]:
    part: list[int] = []
    pixels = 0
    for at, (_, header) in plain.items():
        if part and pixels + header.pixels > PIXELS_AT_ONCE:
            yield part
            part, pixels = [], 0
        part.append(at)
        pixels += header.pixels
    if part:
        yield part


def _without_refused(data: Sequence[bytes], jpegs: JpegDecoder) -> list[torch.Tensor | None]:
    """None for those that are refused, which halving finds: a decoder refuses all for the sake of one."""
    try:
        return list(jpegs(data))
    except RuntimeError:
        if len(data) == 1:
            return [None]
    half = len(data) // 2
    return _without_refused(data[:half], jpegs) + _without_refused(data[half:], jpegs)
