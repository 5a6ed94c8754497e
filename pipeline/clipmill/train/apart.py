"""Held-out pictures stay held out: training pictures that are nearly the same as one of them are left out.

The same bytes always are. Nearly the same are those that `clipmill dedup` would find: their vectors by the model that the
training starts from have at least a given cosine.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import torch

from clipmill.source.units import Unit
from clipmill.train.rows import Rows, Source, decoded

Encode = Callable[[torch.Tensor], torch.Tensor]
"""Prepared pictures, uint8 (n, 3, height, width), to unit vectors, float32 (n, d)."""
_BATCH = 256


def near_contents(
    source: Source,
    held_out: Source,
    encode: Encode,
    least: float,
    pool: ThreadPoolExecutor,
    rank: int = 0,
    workers: int = 1,
) -> frozenset[bytes]:
    """sha256 of the encoded pictures of ``source`` whose cosine with a held-out one is ``least`` or more: of worker
    ``rank``'s share of the units."""
    encoded = [encode(pixels) for _, pixels in _pictures(held_out, held_out.units, pool)]
    if not encoded:
        return frozenset()
    kept = torch.cat(encoded)
    mine = source.units[rank::workers]
    near: set[bytes] = set()
    for contents, pixels in _pictures(source, mine, pool):
        nearest = (encode(pixels) @ kept.T).amax(dim=1)
        near.update(content for content, cosine in zip(contents, nearest.tolist(), strict=True) if cosine >= least)
    return frozenset(near)


def _pictures(
    source: Source, units: Sequence[Unit], pool: ThreadPoolExecutor
) -> Iterator[tuple[list[bytes], torch.Tensor]]:
    """Contents and prepared pictures, some at a time; those that cannot be read are passed over."""
    contents: list[bytes] = []
    pixels: list[torch.Tensor] = []
    for unit in units:
        for rows in source.read([unit]):
            for found in pool.map(lambda at, rows=rows: _picture(rows, at), range(len(rows))):
                if found is not None:
                    contents.append(found[0])
                    pixels.append(found[1])
                if len(pixels) == _BATCH:
                    yield contents, torch.stack(pixels)
                    contents, pixels = [], []
    if pixels:
        yield contents, torch.stack(pixels)


def _picture(rows: Rows, at: int) -> tuple[bytes, torch.Tensor] | None:
    encoded = rows.encoded(at)
    picture = None if encoded is None else decoded(encoded)
    if encoded is None or picture is None:
        return None
    return sha256(encoded).digest(), rows.source.pictures.prepare(picture)
