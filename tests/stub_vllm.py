"""In the place of vLLM, where there is no GPU: a stage of Ray Data that answers rows as vLLM's does, by the library's own loop.

It stands where `ray.data.llm` has its engines, takes what vLLM takes (tokens in which a picture is one place, messages with
pictures, sampling parameters), and gives what vLLM gives. It fails at some rows, as vLLM does: with an error for a text.
"""

import importlib.util
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import ray
import torch
import transformers
from ray.data.llm import ProcessorConfig
from ray.llm._internal.batch.processor import Processor
from ray.llm._internal.batch.stages.base import StatefulStage, StatefulStageUDF

from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, GeneratorSettings
from clipmill.engine import vllm, words_on_vllm
from clipmill.runs.text_stages import words_stage

TOO_LONG = (
    "VLLMValidationError: The decoder prompt (length 90) is longer than the maximum model length of 64. Make sure that "
    "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens."
)


class StubEngine(StatefulStageUDF):
    """One engine. ``errors`` are by the id of a row, or that and the number of what is asked about it; ``asked`` is a file to
    note rows in."""

    def __init__(
        self, data_column: str, expected_input_keys: list[str], folder: str, errors: Mapping[str, str], asked: str
    ) -> None:
        super().__init__(data_column, expected_input_keys)
        torch.set_num_threads(1)
        self.processor = transformers.AutoProcessor.from_pretrained(folder)
        self.network = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
        self.errors, self.asked = errors, Path(asked)

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        for row in batch:
            place = f"{row['id']}/{row['number']}"
            with self.asked.open("a") as notes:
                notes.write(f"{json.dumps(place)}\n")
            error = self.errors.get(place, self.errors.get(row["id"], ""))
            told: dict[str, Any] = {"generated_text": "", "generated_tokens": [], "logprobs": None}
            told["prompt_logprobs"] = None
            if not error:
                told |= self.answer(row)
            yield {**told, "__inference_error__": error, self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN]}

    def answer(self, row: dict[str, Any]) -> dict[str, Any]:
        parts = [part for message in row.pop("messages") for part in message["content"]]
        pictures = [part["image_pil"] for part in parts if part["type"] == "image_pil"]
        pixels = self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
        ids = self.filled(list(row.pop("tokenized_prompt")), len(pictures))
        wanted = row.pop("sampling_params")
        if "prompt_logprobs" in wanted:
            with torch.inference_mode():
                logits = self.network(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0]
            told = [None, *(tell(logits[at - 1], ids[at]) for at in range(1, len(ids)))]
            return {"prompt_logprobs": told, "generated_tokens": [0], "generated_text": ""}
        drawn = {"do_sample": False}
        if wanted["temperature"] > 0:
            torch.manual_seed(wanted["seed"])
            drawn = {"do_sample": True, "temperature": wanted["temperature"], "top_p": wanted["top_p"], "top_k": 0}
        with torch.inference_mode():
            made = self.network.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
                pixel_values=pixels,
                max_new_tokens=wanted["max_tokens"],
                eos_token_id=list(wanted["stop_token_ids"]),
                return_dict_in_generate=True,
                output_logits=True,
                **drawn,
            )
        tokens = made.sequences[0, -len(made.logits) :].tolist()
        return {
            "generated_tokens": tokens,
            "generated_text": self.processor.tokenizer.decode(tokens, skip_special_tokens=True),
            "logprobs": [tell(logits[0], token) for logits, token in zip(made.logits, tokens, strict=True)],
        }

    def filled(self, tokens: list[int], pictures: int) -> list[int]:
        """The place of each picture as often as it has tokens."""
        place, each = self.network.config.image_token_id, self.network.config.image_seq_length
        assert tokens.count(place) == pictures
        return [token for one in tokens for token in [one] * (each if one == place else 1)]


def tell(logits: torch.Tensor, token: int) -> dict[int, dict[str, Any]]:
    """As vLLM tells it."""
    logprob = float(logits.float().log_softmax(-1)[token])
    return {token: {"logprob": logprob, "rank": 1, "decoded_token": ""}}


class StubStage(StatefulStage):
    fn: type[StatefulStageUDF] = StubEngine


class Config(ProcessorConfig):
    should_continue_on_error: bool = True


def stub_processor(folder: Path, asked: Path, errors: Mapping[str, str]) -> Callable[..., Any]:
    """What stands for `clipmill.engine.vllm.processor`."""

    def build(engines: Any, preprocess: Any, postprocess: Any) -> Any:
        options = {"folder": str(folder), "errors": dict(errors), "asked": str(asked)}
        around = {"num_cpus": 0.25, "concurrency": 1}
        stage = StubStage(fn_constructor_kwargs=options, map_batches_kwargs={**around, "num_gpus": engines.gpus})
        return Processor(Config(batch_size=4), [stage], preprocess, postprocess, {"num_cpus": 0.25}, {"num_cpus": 0.25})

    return build


def vllm_is_found(name: str, *more: Any, find: Callable[..., Any] = importlib.util.find_spec) -> Any:
    """Stands for `importlib.util.find_spec`, as if vLLM was installed."""
    return name if name == "vllm" else find(name, *more)


def killed_after(units: int, settings: GeneratorSettings, folder: Path, asked: Path, address: str) -> None:
    """Runs a stage with the stub in this process, which is killed when it has committed so many units."""
    importlib.util.find_spec = vllm_is_found
    vllm.processor = stub_processor(folder, asked, {})
    committed, plain = [], words_on_vllm.commit_unit

    def commit(layout: Any, number: int, packed: Any) -> None:
        plain(layout, number, packed)
        committed.append(number)
        if len(committed) == units:
            os.kill(os.getpid(), signal.SIGKILL)

    words_on_vllm.commit_unit = commit
    ray.init(address=address, log_to_driver=False)
    words_stage(settings, ClusterSettings(), Silent())
