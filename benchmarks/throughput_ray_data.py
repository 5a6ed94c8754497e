"""A peer of `benchmarks.throughput`: embedding as Ray Data's documentation shows it, and no more than that.

One core is left to reading: with an actor on every core it never begins, and says nothing.

python benchmarks/throughput_ray_data.py INPUT.parquet MODEL_FOLDER OUTPUT
"""

import io
import sys

import numpy as np
import open_clip
import ray
import torch
from PIL import Image

source, folder, output = sys.argv[1:]


class Embedder:
    def __init__(self) -> None:
        self.model, _, self.transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self.model.eval()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in batch["image"]]
        pixels = torch.stack([self.transform(picture) for picture in pictures])
        with torch.inference_mode():
            features = self.model.encode_image(pixels, normalize=True)
        return {"embedding": features.numpy()}


ray.init(address="local", include_dashboard=False, logging_level="error", log_to_driver=False)
dataset = ray.data.read_parquet(source)
actors = max(1, int(ray.cluster_resources()["CPU"]) - 1)
dataset = dataset.map_batches(Embedder, batch_size=32, compute=ray.data.ActorPoolStrategy(size=actors), num_cpus=1)
dataset.write_parquet(output)
