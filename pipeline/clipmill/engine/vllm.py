"""vLLM as `ray.data.llm` runs it: a dataset of rows in, the same rows with texts out. It has not been run on a GPU yet.

A row goes in as `clipmill.words.engines.vllm` asks it, or with an error of our own, which takes it past every stage. A row that
vLLM fails at comes out with an error in place of a text, and the others of its batch with theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from clipmill.encoders.library import find_place
from clipmill.words.loading import FoundGenerator

ERROR = "__inference_error__"
"""The column in which `ray.data.llm` tells what went wrong with a row; empty where nothing did."""
BATCH_SIZE = 16
"""Rows that wait for one another between stages: their pictures are held decoded, 36 MB each of 12 megapixels."""
_BATCHES = 16
"""Under way in an engine at once: with `BATCH_SIZE` as many rows as vLLM takes by itself."""
_CPUS = 0.25
"""Of the tasks around the engine, which takes a core itself: all fit on two cores."""
_PRECISIONS = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16"}

Dataset = Callable[[ray.data.Dataset], ray.data.Dataset]


@dataclass(frozen=True)
class Engines:
    """How vLLM is set up: ``engines`` of it with ``gpus`` each, ``images`` at most in a prompt."""

    found: FoundGenerator
    engines: int
    gpus: int
    images: int
    precision: str
    batch_size: int
    seed: int

    def arguments(self) -> dict[str, Any]:
        """Of vLLM's engine. Weights that would execute code are not read; the context is the model's, or what fits."""
        return {
            **self._revision(),
            "dtype": _PRECISIONS[self.precision],
            "load_format": "safetensors",
            "trust_remote_code": False,
            "max_model_len": -1,
            "limit_mm_per_prompt": {"image": self.images},
            "logprobs_mode": "raw_logprobs",
            "tensor_parallel_size": self.gpus,
            "seed": self.seed,
        }

    @property
    def source(self) -> str:
        """Where every node finds the model: on the hub by its name, else in a folder that all have."""
        return find_place(self.found.settings).repository or str(self.found.folder)

    def _revision(self) -> dict[str, str]:
        """The commit that the identity is of, where the model is on the hub."""
        return {"revision": self.found.identity.pretrained} if find_place(self.found.settings).repository else {}


Preprocess = Callable[[dict[str, Any]], dict[str, Any]]
"""A row to what the engine is asked about it, or to an error (`ERROR`)."""


def processor(
    engines: Engines, preprocess: Preprocess, postprocess: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Dataset:
    """What makes of a dataset of rows one of texts; rows with an error go past ``postprocess``."""
    from ray.data.llm import PrepareMultimodalStageConfig, build_processor, vLLMEngineProcessorConfig

    config = vLLMEngineProcessorConfig(
        model_source=engines.source,
        engine_kwargs=engines.arguments(),
        batch_size=engines.batch_size or BATCH_SIZE,
        concurrency=engines.engines,
        max_concurrent_batches=_BATCHES,
        should_continue_on_error=True,
        log_engine_metrics=False,
        prepare_multimodal_stage=PrepareMultimodalStageConfig(
            enabled=True,
            chat_template_content_format="openai",
            model_config_kwargs={**engines._revision(), "trust_remote_code": False},
            num_cpus=_CPUS,
        ),
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    built: Dataset = build_processor(
        config,
        preprocess=preprocess,
        postprocess=postprocess,
        preprocess_map_kwargs={"num_cpus": _CPUS},
        postprocess_map_kwargs={"num_cpus": _CPUS},
    )
    return built
