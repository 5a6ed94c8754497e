"""Every family of models writes in batches what its library writes one picture at a time, token by token."""

from typing import Any

import pytest
import torch
from torchvision.transforms.functional import to_pil_image
from transformers import AutoModelForImageTextToText, AutoProcessor

from clipmill.core.settings import CaptionSettings
from clipmill.words.engines.transformers import TransformersGenerator
from clipmill.words.joining import groups
from clipmill.words.loading import find_generator
from clipmill.words.protocol import Decoding, Question
from tiny_generators import MAKERS, TinyGenerator, tiny_generator

TOKENS = 10
PROMPTS = ["what is this", "describe a cat and two dogs?", "a"]
CHOICES = ["yes", "no way", "yes it is a cat"]


@pytest.fixture(scope="module", params=sorted(MAKERS))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyGenerator:
    return tiny_generator(request.param, tmp_path_factory.mktemp(request.param.replace("-", "_")))


@pytest.fixture(scope="module")
def generator(tiny: TinyGenerator) -> TransformersGenerator:
    settings = CaptionSettings(input="x", output="y", model=str(tiny.folder))
    made = find_generator(settings).load("cpu", "fp32")
    assert isinstance(made, TransformersGenerator)
    made.network.double()
    return made


def plainly(tiny: TinyGenerator, picture: torch.Tensor, prompt: str) -> list[int]:
    """The tokens by the library's own few lines, for one picture alone, in float64."""
    processor = AutoProcessor.from_pretrained(tiny.folder)
    network = AutoModelForImageTextToText.from_pretrained(tiny.folder).double().eval()
    image = to_pil_image(picture)
    if getattr(processor, "chat_template", None):
        content: list[dict[str, Any]] = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(images=[image], text=[text], return_tensors="pt")
    else:
        inputs = processor(images=image, text=prompt, return_tensors="pt")
    given = {
        name: value.double() if value.is_floating_point() else value
        for name, value in inputs.items()
        if name != "labels"
    }
    with torch.inference_mode():
        made = network.generate(**given, max_new_tokens=TOKENS, do_sample=False, num_beams=1)
    alone = len(given["input_ids"][0]) - (tiny.kind == "blip")
    return made[0].tolist()[1 if network.config.is_encoder_decoder else alone :]


def batched(generator: TransformersGenerator, questions: list[Question]) -> list[tuple[str, int]]:
    """Texts and numbers of tokens of questions in batches of five."""
    prepared = [generator.prepare(question) for question in questions]
    found: dict[int, tuple[str, int]] = {}
    for places in groups([one.length for one in prepared], 5, exact=generator.exact):
        made = generator.generate([prepared[at] for at in places], Decoding(TOKENS), 0)
        found.update({at: (said[0].text, said[0].tokens) for at, said in zip(places, made, strict=True)})
    return [found[at] for at in range(len(questions))]


def test_batches_write_what_the_library_writes_one_at_a_time(
    tiny: TinyGenerator, generator: TransformersGenerator, pictures: list[torch.Tensor]
) -> None:
    prompts = [PROMPTS[at % len(PROMPTS)] for at in range(len(pictures))]
    found = batched(generator, [Question(one, prompt) for one, prompt in zip(pictures, prompts, strict=True)])
    tokenizer = AutoProcessor.from_pretrained(tiny.folder).tokenizer
    for (text, tokens), picture, prompt in zip(found, pictures, prompts, strict=True):
        expected = plainly(tiny, picture, prompt)
        assert text == tokenizer.decode(expected, skip_special_tokens=True).strip()
        assert tokens == len(expected)
    assert len({text for text, _ in found[:: len(PROMPTS)]}) > 1, "every picture has the same text"


def test_a_caption_without_a_prompt_differs_from_picture_to_picture(
    generator: TransformersGenerator, pictures: list[torch.Tensor]
) -> None:
    found = batched(generator, [Question(picture, "") for picture in pictures[:6]])
    alone = [batched(generator, [Question(picture, "")])[0] for picture in pictures[:6]]
    assert found == alone
    assert len({text for text, _ in found}) > 1


def test_choices_have_the_probability_of_the_whole_answer(
    tiny: TinyGenerator, generator: TransformersGenerator, pictures: list[torch.Tensor]
) -> None:
    """The sum over the answer's tokens in one pass of prompt and answer; an encoder reads the prompt apart."""
    for picture in pictures[:2]:
        prepared = generator.prepare(Question(picture, "is it a cat?"))
        (scored,) = generator.score([prepared], CHOICES)
        for said, choice in zip(scored, CHOICES, strict=True):
            assert said.text == choice
            expected, tokens = whole_pass(tiny, generator, prepared.inputs, choice)
            assert said.logprob == pytest.approx(expected, abs=1e-5)
            assert said.tokens == tokens


def whole_pass(tiny: TinyGenerator, generator: TransformersGenerator, inputs: Any, choice: str) -> tuple[float, int]:
    """Mean log probability of an answer and the end of the text behind it."""
    network, tokenizer = generator.network, AutoProcessor.from_pretrained(tiny.folder).tokenizer
    encodes = bool(network.config.is_encoder_decoder)
    words = choice if encodes or getattr(generator.processor, "chat_template", None) else f" {choice}"
    answer = torch.tensor([*tokenizer(words, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id])
    given = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    if encodes:
        start = torch.tensor([network.config.get_text_config(decoder=True).decoder_start_token_id])
        given["decoder_input_ids"] = torch.cat([start, answer[:-1]])[None]
        logits = network(**given).logits[0]
    else:
        ids = given["input_ids"][0]
        if tiny.kind == "blip":
            ids = torch.cat([torch.tensor([network.config.text_config.bos_token_id]), ids[1:-1]])
        given["input_ids"] = torch.cat([ids, answer])[None]
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        for name, beyond in (("token_type_ids", 1), ("mm_token_type_ids", 0)):
            if name in given:
                given[name] = torch.cat([given[name][0], torch.full_like(answer, beyond)])[None]
        logits = network(**given).logits[0, -len(answer) - 1 : -1]
    each = torch.log_softmax(logits.double(), dim=-1).gather(1, answer[:, None])
    return float(each.mean()), len(answer)
