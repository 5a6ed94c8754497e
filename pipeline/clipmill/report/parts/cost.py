"""What the embeddings cost, from their manifest: throughput and bytes."""

from clipmill.datasets.manifests import Embeddings
from clipmill.report.document import Figure


def cost_figures(embeddings: Embeddings) -> list[Figure]:
    """Figures of the last embedding run and of the files; those of a stage that did nothing are left out."""
    throughput = embeddings.manifest.throughput
    figures = [
        Figure(
            name="images_per_second",
            title="Images a second",
            unit="per second",
            value=throughput.images_per_second,
            definition="Images embedded a second of wall time, in the last run that made these embeddings.",
        ),
        Figure(
            name="captions_per_second",
            title="Captions a second",
            unit="per second",
            value=throughput.captions_per_second,
            definition="Captions embedded a second of wall time, in the same run.",
        ),
        Figure(
            name="images_per_cpu_second",
            title="Images a CPU-second",
            unit="per second",
            value=throughput.images_per_cpu_second,
            definition="Images embedded a second of one core's time, in the same run.",
        ),
        Figure(
            name="embedding_wall_seconds",
            title="Wall time",
            unit="seconds",
            value=throughput.wall_seconds,
            definition="Wall time of the last run that made these embeddings.",
        ),
    ]
    figures = [figure for figure in figures if figure.value > 0]
    for part, item in (("images", "an image"), ("captions", "a caption")):
        rows = embeddings.count(part)
        if rows:
            size = sum(shard.bytes for shard in embeddings.shards_of(part))
            figures.append(
                Figure(
                    name=f"bytes_per_{part.rstrip('s')}",
                    title=f"Bytes {item}",
                    unit="bytes",
                    value=size / rows,
                    n=rows,
                    definition=f"Size of the {part} files on disk, with all their columns, divided by their rows.",
                )
            )
    return figures
