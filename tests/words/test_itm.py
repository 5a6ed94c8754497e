"""The image-text matching head scores pairs as its library does one at a time; models without one are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t
from torchvision.transforms.functional import to_pil_image

from clipmill.core.errors import UserError
from clipmill.core.settings import RecaptionSettings
from clipmill.words.scorers.finding import find_scorer
from tiny_generators import TinyGenerator, tiny_generator, tiny_matcher

TEXTS = ["a red cube", "two dogs run along a beach towards the sea, one with a stick", "a", "nothing at all " * 40]


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> TinyGenerator:
    return tiny_matcher(tmp_path_factory.mktemp("matcher"))


def settings(model: str | None) -> RecaptionSettings:
    return RecaptionSettings(input="in", texts="texts", output="out", filter="itm", model=model)


def test_scores_are_those_of_the_library_one_pair_at_a_time(
    matcher: TinyGenerator, pictures: list[torch.Tensor]
) -> None:
    scorer = find_scorer(settings(str(matcher.folder)).model_copy(update={"batch_size": 3})).load("cpu")
    pairs = np.array([[picture, text] for picture in range(5) for text in range(len(TEXTS))])
    found = scorer.score([scorer.prepare(picture) for picture in pictures[:5]], TEXTS, pairs)
    expected = []
    for picture, text in pairs:
        inputs = matcher.processor(
            images=to_pil_image(pictures[picture]),
            text=TEXTS[text],
            truncation=True,
            max_length=64,
            return_tensors="pt",
        )
        with torch.no_grad():
            expected.append(matcher.network(**inputs).itm_score.softmax(dim=-1)[0, 1].item())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(np.unique(found.round(6))) > len(pairs) / 2
    assert scorer.cut_short(TEXTS).tolist() == [False, False, False, True]


def test_only_classes_that_have_the_head_are_taken(
    matcher: TinyGenerator, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blip = tiny_generator("blip", tmp_path_factory.mktemp("blip")).folder
    with pytest.raises(UserError, match="is a BlipForConditionalGeneration, which has no image-text matching head"):
        find_scorer(settings(str(blip)))
    with pytest.raises(UserError, match="--filter itm needs --model"):
        find_scorer(settings(None))
    with pytest.raises(UserError, match="has no image-text matching head: use it with --filter clip"):
        find_scorer(settings("ViT-B-32"))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BlipForImageTextRetrieval"]}))
    with pytest.raises(UserError, match="has no weights in safetensors"):
        find_scorer(settings(str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(UserError, match="cannot be loaded"):
        find_scorer(settings(str(tmp_path))).load("cpu")


def test_weights_that_lack_the_head_are_refused(matcher: TinyGenerator, tmp_path: Path) -> None:
    t.BlipForConditionalGeneration(matcher.network.config).save_pretrained(tmp_path)
    matcher.processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BlipForImageTextRetrieval"]}))
    with pytest.raises(UserError, match=r"has no weights for \d+ tensors, such as"):
        find_scorer(settings(str(tmp_path))).load("cpu")
