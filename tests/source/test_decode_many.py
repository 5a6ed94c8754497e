"""JPEGs decoded many at a time are those decoded one by one, and what the decoder of many refuses ends as it does alone.

The decoder of a GPU is stood in for by functions of the CPU.
"""

import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from clipmill.core.errors import RunFailed
from clipmill.core.gpus import FAKE_GPUS
from clipmill.core.schemas import Reason
from clipmill.source import decode_many
from clipmill.source.decode import Rejected, decode_image
from clipmill.source.decode_many import Given, decode_all, jpeg_decoder

LIMIT = 10_000_000


def picture(seed: int, kind: str = "JPEG", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colours).resize(size).save(stream, kind, **options)
    return stream.getvalue()


def turned(seed: int, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(seed, exif=exif)


class Stand:
    """A decoder of many that keeps how many it was given at a time, and refuses all where it dislikes one."""

    def __init__(self, disliked: Sequence[bytes] = ()) -> None:
        self.disliked = set(disliked)
        self.given: list[int] = []

    def __call__(self, jpegs: Sequence[bytes]) -> list[torch.Tensor]:
        self.given.append(len(jpegs))
        if self.disliked & set(jpegs):
            raise RuntimeError("nvJPEG: not supported")
        return [
            decode_jpeg(torch.frombuffer(bytearray(one), dtype=torch.uint8), mode=ImageReadMode.RGB) for one in jpegs
        ]


def alone(given: Given) -> torch.Tensor | Rejected | None:
    if not isinstance(given, bytes):
        return given
    try:
        return decode_image(given, LIMIT)
    except Rejected as rejected:
        return rejected


def told(found: object) -> object:
    if isinstance(found, Rejected):
        return found.reason, found.detail
    return None if found is None else np.asarray(found).tolist()


MISSING = Rejected(Reason.MISSING_IMAGE, "the image is null")
MIXED: list[Given] = [
    picture(0),
    None,
    picture(1, "PNG"),
    turned(2, 6),
    b"",
    MISSING,
    picture(3)[:-200],
    b"\xff\xd8\xff" + bytes(300),
    b"no picture",
    picture(4, size=(4000, 3000)),
    picture(5, progressive=True),
    picture(6),
]


@pytest.mark.parametrize("at_once", [1, 3, 64])
@pytest.mark.parametrize("refused", [[], [0], [0, 3, 11], [0, 3, 10, 11]])
def test_each_ends_as_it_does_alone(at_once: int, refused: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_many, "JPEGS_AT_ONCE", at_once)
    stand = Stand([given for at in refused if isinstance(given := MIXED[at], bytes)])
    found = list(decode_all(MIXED, LIMIT, stand))
    assert [given for given, _ in found] == MIXED
    assert [told(one) for _, one in found] == [told(alone(given)) for given in MIXED]
    assert told(found[9][1]) == told(alone(MIXED[9]))
    assert isinstance(found[9][1], Rejected)
    assert max(stand.given) <= at_once


def test_only_whole_jpegs_reach_the_decoder_and_all_of_a_run_at_once() -> None:
    stand = Stand()
    list(decode_all(MIXED, LIMIT, stand))
    assert stand.given == [4]


def test_no_more_pixels_are_decoded_at_once_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_many, "PIXELS_AT_ONCE", 3000)
    stand = Stand()
    pictures = [picture(0), picture(1), picture(2), picture(3, size=(80, 60)), picture(4)]  # 1,200 pixels, one 4,800
    found = [one for _, one in decode_all(pictures, LIMIT, stand)]
    assert stand.given == [2, 2]
    assert [told(one) for one in found] == [told(alone(one)) for one in pictures]


def test_without_a_decoder_of_many_one_picture_is_read_at_a_time() -> None:
    read = []

    def reading() -> object:
        for seed in range(3):
            read.append(seed)
            yield picture(seed)

    for number, (_, found) in enumerate(decode_all(reading(), LIMIT)):  # type: ignore[arg-type]
        assert read == list(range(number + 1))
        assert told(found) == told(alone(picture(number)))


def test_a_process_without_a_gpu_has_no_decoder_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FAKE_GPUS, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunFailed, match=r"--decode gpu: .* no CUDA .*--decode cpu"):
        jpeg_decoder()
    monkeypatch.setenv(FAKE_GPUS, "1")
    [found] = jpeg_decoder()([picture(0)])
    assert told(found) == told(alone(picture(0)))
