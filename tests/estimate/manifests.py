"""Manifests of embed runs that never were, with numbers that can be reckoned with by hand."""

from datetime import datetime, timedelta, timezone
from typing import Any

from clipmill.core.manifests import Counts, EmbeddingsManifest, ModelIdentity, Run, Throughput

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def manifest(
    rows: int,
    wall: float,
    seconds: dict[str, float],
    *,
    captions: int = 0,
    encoded_with: str = "cpu fp32 batch 32",
    rows_encoded: int | None = None,
    **hardware: Any,
) -> EmbeddingsManifest:
    identity = ModelIdentity(
        name="ViT-Z-1",
        pretrained="none",
        weights_sha256="0" * 64,
        preprocessing={"size": [32, 32]},
        tokenizer="t",
        tokenizer_sha256="0" * 64,
        dimension=16,
        logit_scale=100.0,
    )
    encoded = rows if rows_encoded is None else rows_encoded
    return EmbeddingsManifest(
        model=identity,
        dimension=16,
        counts=Counts(rows=rows, images=rows, captions=captions),
        configuration={},
        encoded_with={encoded_with: rows},
        kept_columns=[],
        runs=[
            Run(
                started=START,
                finished=START + timedelta(seconds=wall),
                rows_encoded=encoded,
                rows_reused=rows - encoded,
            )
        ],
        throughput=Throughput(
            wall_seconds=wall,
            images_per_second=rows / wall,
            captions_per_second=0.0,
            images_per_cpu_second=0.0,
            stage_seconds=seconds,
        ),
        software={},
        hardware={"cpus": 2.0, "gpus": 0.0, "encoders": 2, **hardware},
        inputs_sha256="0" * 64,
        shards_sha256="0" * 64,
    )
