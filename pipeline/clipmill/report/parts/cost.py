"""What the embeddings cost, from their manifest: throughput and bytes."""

from clipmill.core.gpus import peak_flops
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.figures import Figure, metric
from clipmill.report.published import published_gflops


def cost_figures(embeddings: Embeddings) -> list[Figure]:
    """Figures of the last embedding run and of the files; those of a stage that did nothing are left out."""
    throughput = embeddings.manifest.throughput
    values = {
        "cost.images_per_second": throughput.images_per_second,
        "cost.captions_per_second": throughput.captions_per_second,
        "cost.images_per_cpu_second": throughput.images_per_cpu_second,
        "cost.embedding_wall_seconds": throughput.wall_seconds,
    }
    # Vectors made elsewhere were read, and nothing is known of what it took to embed them.
    embedded = not embeddings.manifest.imported
    values["cost.gpu_flops_share"] = _share_of_peak(embeddings.manifest)
    figures = [metric(key).figure(value) for key, value in values.items() if value > 0 and embedded]
    for part, item in (("images", "image"), ("captions", "caption")):
        rows = embeddings.count(part)
        if rows:
            size = sum(shard.bytes for shard in embeddings.shards_of(part))
            figures.append(metric(f"cost.bytes_per_{item}").figure(size / rows, rows))
    return figures


def _share_of_peak(manifest: EmbeddingsManifest) -> float:
    """The published operations of the pictures of the last run over what the GPU could have done while it computed them; 0
    where either is not known, or where several kinds of GPU computed."""
    gflops = published_gflops(manifest.model.name) if manifest.model else None
    peaks = {peak_flops(how.partition(" on ")[2]) for how in manifest.encoded_with}
    seconds = manifest.throughput.stage_seconds.get("encode_images", 0.0)
    peak = peaks.pop() if len(peaks) == 1 else None
    if gflops is None or peak is None or not seconds:
        return 0.0
    images = manifest.throughput.images_per_second * manifest.throughput.wall_seconds
    return images * gflops[0] * 1e9 / (seconds * peak)
