"""What vLLM is asked is what its own classes take, and what cannot be run with it is told in one sentence."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from blocks import write_pictures
from clipmill.core import gpus
from clipmill.core.errors import UserError
from clipmill.core.schemas import Reason
from clipmill.core.settings import CaptionSettings, ClusterSettings
from clipmill.engine import device
from clipmill.words.asking import Asking
from clipmill.words.engines.vllm import VllmPrompts, reason_of, seed_of
from clipmill.words.gathered import Gathering, Told, written
from clipmill.words.loading import find_generator
from clipmill.words.protocol import Decoding, Question, Said, Shown, Unanswerable
from clipmill_jobs.caption import command
from tiny_generators import TinyGenerator, tiny_generator

PICTURE = torch.zeros((3, 20, 30), dtype=torch.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyGenerator:
    return tiny_generator("llava", tmp_path_factory.mktemp("llava"))


@pytest.fixture
def prompts(tiny: TinyGenerator) -> VllmPrompts:
    return VllmPrompts.of("tiny", tiny.folder)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM was."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name if name == "vllm" else find(name, *more))


@pytest.fixture
def type_in(tiny: TinyGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """The exit code of `clipmill caption`, and what it told."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv(gpus.FAKE_GPUS, raising=False)
    monkeypatch.setattr(device, "named_cluster", lambda settings: bool(settings.address))
    folder = write_pictures(tmp_path / "in", 3)

    def run(*more: str, model: str | None = str(tiny.folder)) -> tuple[int, str]:
        named = ["--model", model] if model else []
        line = ["--input", folder, "--output", str(tmp_path / "out"), "--engine", "vllm", *named, *more]
        done = CliRunner().invoke(command, line)
        return done.exit_code, " ".join(done.output.split())

    return run


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_line_that_installs_it_is_told(type_in: Callable[..., tuple[int, str]]) -> None:
    code, told = type_in()
    assert code == 2
    assert "pip install 'clipmill[vllm]'" in told


@pytest.mark.usefixtures("installed")
def test_what_vllm_cannot_run_is_refused_before_anything_is_read(
    type_in: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, told = type_in()
    assert code == 2
    assert "--engine vllm runs on GPUs, and this machine has none" in told
    assert "give --engine transformers" in told
    code, told = type_in("--device", "cpu")
    assert code == 2
    assert told.endswith("--engine vllm runs on GPUs, and --device cpu asks for none: leave one of them out")
    code, told = type_in("--gpus-per-actor", "0.5", "--address", "10.0.0.1:6379")
    assert code == 2
    assert "whole GPUs" in told
    code, told = type_in(model=None)
    assert code == 2
    assert "--engine vllm needs --model" in told
    other = tiny_generator("blip-2", tmp_path / "blip")
    code, told = type_in(model=str(other.folder))
    assert code == 2
    assert "is of the type blip-2, which takes none" in told


@pytest.mark.usefixtures("installed")
def test_auto_never_takes_vllm_and_its_name_is_part_of_what_texts_follow_from(tiny: TinyGenerator) -> None:
    def found(engine: Any) -> Any:
        return find_generator(CaptionSettings(input="in", output="out", model=str(tiny.folder), engine=engine))

    assert found("auto").identity.engine == "transformers"
    assert found("vllm").identity.differences(found("auto").identity) == ["engine: vllm and transformers"]
    assert found("vllm").identity.weights_sha256 == found("auto").identity.weights_sha256


def test_gpus_that_are_there_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "named_cluster", lambda settings: bool(settings.address))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device.check_vllm(ClusterSettings(gpus_per_actor=2))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.check_vllm(ClusterSettings(address="10.0.0.1:6379"))
    with pytest.raises(UserError, match="this machine has none"):
        device.check_vllm(ClusterSettings())


def test_a_request_has_the_words_of_the_template_and_a_picture_in_each_place(
    prompts: VllmPrompts, tiny: TinyGenerator
) -> None:
    question = Question(PICTURE, "what is it?", (Shown(PICTURE + 9, "and this?", "blocks"),))
    request = prompts.request(prompts.prepare(question), Decoding(7), 3)
    tokens = tiny.processor.tokenizer.convert_ids_to_tokens(request["tokenized_prompt"])
    assert tokens.count("<image>") == 2
    parts = [(message["role"], [part["type"] for part in message["content"]]) for message in request["messages"]]
    assert parts == [("user", ["image_pil", "text"]), ("assistant", ["text"]), ("user", ["image_pil", "text"])]
    pictures = [message["content"][0]["image_pil"] for message in request["messages"][::2]]
    assert [(picture.size, picture.getpixel((0, 0))) for picture in pictures] == [
        ((30, 20), (9,) * 3),
        ((30, 20), (0,) * 3),
    ]
    assert request["sampling_params"] == {
        "max_tokens": 7,
        "logprobs": 0,
        "stop_token_ids": list(prompts.ends),
        "temperature": 0.0,
    }
    drawn = prompts.request(prompts.prepare(question), Decoding(7, 0.7, 0.9, 2), 3)["sampling_params"]
    assert (drawn["temperature"], drawn["top_p"], drawn["seed"]) == (0.7, 0.9, 3)


def test_a_prompt_that_is_longer_than_the_context_is_not_asked(prompts: VllmPrompts) -> None:
    assert prompts.context_length is not None
    with pytest.raises(Unanswerable, match="tokens, and the model takes"):
        prompts.prepare(Question(PICTURE, "blocks " * prompts.context_length))


def test_texts_say_how_they_ended_and_how_probable_they_were(prompts: VllmPrompts) -> None:
    end = prompts.ends[0]
    output = {
        "generated_text": " a block ",
        "generated_tokens": [5, end],
        "logprobs": [{5: {"logprob": -1.0}, 6: {"logprob": -0.1}}, {str(end): {"logprob": -0.5}, "6": None}],
    }
    assert prompts.said(output) == Said("a block", 2, -0.75, "stop")
    cut = {**output, "generated_tokens": [5, 6], "logprobs": [{5: {"logprob": -1.0}}, {6: {"logprob": -3.0}}]}
    assert prompts.said(cut) == Said("a block", 2, -2.0, "length")
    with pytest.raises(ValueError, match="no probability of the token 6"):
        prompts.said({**cut, "logprobs": [{5: {"logprob": -1.0}}, {}]})


def test_a_choice_weighs_what_its_own_tokens_do(prompts: VllmPrompts) -> None:
    answer = prompts.answer("red block")
    assert answer[-1] == prompts.ends[0]
    told = [None, {9: {"logprob": -50.0}}, *({token: {"logprob": -float(at)}} for at, token in enumerate(answer))]
    said = prompts.scored({"prompt_logprobs": told}, "red block")
    assert said == Said("red block", len(answer), -(len(answer) - 1) / 2, "choice")
    with pytest.raises(ValueError, match="no probabilities"):
        prompts.scored({"prompt_logprobs": None}, "red block")


def test_what_does_not_fit_is_told_from_what_failed() -> None:
    long = "VLLMValidationError: The decoder prompt (length 9000) is longer than the maximum model length of 4096. Make sure"
    plus = (
        "VLLMValidationError: The decoder prompt (length 64) plus the number of requested output tokens (at least 1) is longer "
        "than the maximum model length of 64."
    )
    assert [reason_of(long), reason_of(plus)] == [Reason.NOT_ANSWERABLE] * 2
    assert reason_of("RuntimeError: CUDA error") == Reason.ENGINE_FAILED


def test_each_row_and_candidate_has_a_seed_of_its_own() -> None:
    seeds = {seed_of(seed, row, number) for seed in (0, 1) for row in range(50) for number in range(3)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**32 for seed in seeds)


def known(row: int) -> dict[str, Any]:
    return {"row": row, "id": f"p{row}", "source": "in.parquet", "has_image_column": row != 3}


def test_a_unit_is_whole_once_its_last_row_is_back_in_whatever_order() -> None:
    asking = Asking("what?", Decoding(5, 0.7, 1.0, 2))
    told = [
        Told(row, number, known(row), True, "what?", Said(f"{row}.{number}", 2, -0.5, "stop"))
        for row in (0, 2)
        for number in (0, 1)
    ]
    told += [Told(1, number, known(1), False, reject=("image", Reason.NOT_AN_IMAGE, "no picture")) for number in (0, 1)]
    told += [Told(3, number, known(3), False) for number in (0, 1)]
    gathering = Gathering({8: 4, 9: 1}, asking)
    sent = [Told.from_json(one.to_json()) for one in told]
    assert sent == told
    assert all(gathering.take(8, one) is None for one in reversed(sent[1:]))
    assert gathering.take(9, sent[0]) is None
    unit = gathering.take(8, sent[0])
    assert unit is not None
    assert unit.texts.column("text").to_pylist() == ["0.0", "0.1", "2.0", "2.1"]
    (reject,) = unit.rejected.to_pylist()
    assert (reject["row"], reject["caption_index"], reject["reason"]) == (1, None, "not_an_image")
    assert (unit.sums.rows, unit.sums.answered, unit.sums.without_image_column) == (4, 2, 1)


def test_a_choice_that_failed_leaves_no_answer_to_its_row() -> None:
    asking = Asking("what?", Decoding(5), ("yes", "no"))
    yes, no = Said("yes", 2, -0.9, "choice"), Said("no", 3, -0.4, "choice")
    whole = [Told(0, number, known(0), True, "what?", said) for number, said in enumerate((yes, no))]
    failed = [
        Told(1, 0, known(1), True, "what?", yes),
        Told(1, 1, known(1), True, "what?", None, ("text", Reason.ENGINE_FAILED, "RuntimeError: no")),
    ]
    unit = written([*whole, *failed], asking)
    assert [(row["row"], row["text"]) for row in unit.texts.to_pylist()] == [(0, "no")]
    assert [(row["row"], row["reason"]) for row in unit.rejected.to_pylist()] == [(1, "engine_failed")]
