"""A CoCa's captions are those of a plain loop over its decoder, one picture at a time."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from clipmill.core.settings import CaptionSettings
from clipmill.words.engines.open_clip import CocaGenerator
from clipmill.words.loading import find_generator
from clipmill.words.protocol import Decoding, Prepared, Question, Unanswerable
from tiny_coca import COCA

TOKENS = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("coca")
    (made / "open_clip_config.json").write_text(json.dumps(COCA))
    torch.manual_seed(2)
    network = open_clip.CoCa(**{name: value for name, value in COCA["model_cfg"].items() if name != "custom_text"})
    for weight in network.parameters():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=0.4)
    from safetensors.torch import save_file

    save_file(network.state_dict(), made / "open_clip_model.safetensors")
    return made


@pytest.fixture(scope="module")
def generator(folder: Path) -> CocaGenerator:
    found = find_generator(CaptionSettings(input="x", output="y", model=str(folder)))
    assert found.identity.engine == "open_clip"
    made = found.load("cpu", "fp32")
    assert isinstance(made, CocaGenerator)
    made.network.double()
    return made


def plainly(generator: CocaGenerator, prepared: Prepared) -> tuple[list[int], float]:
    """The tokens behind the first, and the mean of their log probabilities; everything computed again at each token."""
    network, tokens, each = generator.network, [int(generator.tokenizer([""])[0, 0])], []
    end = int(generator.tokenizer([""])[0].max())
    pixels = generator.preprocessing.normalise(prepared.inputs["pixels"]).double()
    with torch.inference_mode():
        while len(tokens) <= TOKENS and (len(tokens) == 1 or tokens[-1] != end):
            logits = network(pixels, torch.tensor([tokens]), output_labels=False)["logits"][0, -1].double()
            tokens.append(int(logits.argmax()))
            each.append(float(torch.log_softmax(logits, dim=-1)[tokens[-1]]))
    return tokens[1:], sum(each) / len(each)


def test_a_batch_says_what_a_plain_loop_says_of_each(generator: CocaGenerator, pictures: list[torch.Tensor]) -> None:
    prepared = [generator.prepare(Question(picture, "")) for picture in pictures]
    said = generator.generate(prepared, Decoding(TOKENS), 0)
    end = int(generator.tokenizer([""])[0].max())
    for (one,), item in zip(said, prepared, strict=True):
        tokens, logprob = plainly(generator, item)
        assert one.text == generator.tokenizer.decode([token for token in tokens if token != end]).strip()
        assert one.tokens == len(tokens)
        assert one.finish == ("stop" if tokens[-1] == end else "length")
        assert one.logprob == pytest.approx(logprob, abs=1e-6)
    assert len({one.text for (one,) in said}) > 1


def test_candidates_are_drawn_by_the_seed(generator: CocaGenerator, pictures: list[torch.Tensor]) -> None:
    prepared = [generator.prepare(Question(picture, "")) for picture in pictures[:3]]
    decoding = Decoding(TOKENS, temperature=1.5, top_p=0.9, candidates=4)
    first, again, other = (generator.generate(prepared, decoding, seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert [len(candidates) for candidates in first] == [4, 4, 4]
    assert len({said.text for said in first[0]}) > 1


def test_only_the_most_probable_tokens_are_drawn(generator: CocaGenerator, pictures: list[torch.Tensor]) -> None:
    """At a tiny share of probability there is one token to draw: that of greedy decoding."""
    prepared = [generator.prepare(Question(picture, "")) for picture in pictures[:3]]
    drawn = generator.generate(prepared, Decoding(TOKENS, temperature=1.0, top_p=1e-6), 1)
    assert [one.text for (one,) in drawn] == [one.text for (one,) in generator.generate(prepared, Decoding(TOKENS), 0)]


def test_a_choice_has_the_probability_of_the_whole_caption(
    generator: CocaGenerator, pictures: list[torch.Tensor]
) -> None:
    prepared = generator.prepare(Question(pictures[0], ""))
    (scored,) = generator.score([prepared], ["a cat", "a red dog"])
    pixels = generator.preprocessing.normalise(prepared.inputs["pixels"]).double()
    for said in scored:
        tokens: Any = generator.tokenizer([said.text])
        length = int(tokens[0].argmax()) + 1
        logits = generator.network(pixels, tokens[:, : length - 1], output_labels=False)["logits"][0]
        each = torch.log_softmax(logits.double(), dim=-1).gather(1, tokens[0, 1:length, None])
        assert said.logprob == pytest.approx(float(each.mean()), abs=1e-6)
        assert said.tokens == length - 1


def test_a_prompt_cannot_be_asked(generator: CocaGenerator, pictures: list[torch.Tensor]) -> None:
    with pytest.raises(Unanswerable, match="takes no prompt"):
        generator.prepare(Question(pictures[0], "what is it?"))
