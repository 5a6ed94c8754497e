"""What the embeddings cost, from their manifest: throughput and bytes."""

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.figures import Figure, metric


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
    embedded = embeddings.manifest.model is not None
    figures = [metric(key).figure(value) for key, value in values.items() if value > 0 and embedded]
    for part, item in (("images", "image"), ("captions", "caption")):
        rows = embeddings.count(part)
        if rows:
            size = sum(shard.bytes for shard in embeddings.shards_of(part))
            figures.append(metric(f"cost.bytes_per_{item}").figure(size / rows, rows))
    return figures
