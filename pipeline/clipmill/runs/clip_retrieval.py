"""What `clip-retrieval inference` wrote, taken over as it lies there: its vectors as embeddings, and an index over them."""

import shlex

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.manifests import EmbeddingsManifest, IndexManifest
from clipmill.core.reporter import Reporter
from clipmill.core.settings import ClusterSettings, ImportVectorsSettings, IndexSettings, ModelSettings
from clipmill.runs.stages import index_stage, load_identity
from clipmill.source.importers.vectors import import_vectors

_FOLDERS = {"images": "img_emb", "texts": "text_emb", "metadata": "metadata"}
EMBEDDINGS, INDEX = "embeddings", "index"


def take_over(
    source: str,
    output: str,
    model: ModelSettings,
    cluster: ClusterSettings,
    reporter: Reporter,
    *,
    overwrite: bool = False,
) -> tuple[EmbeddingsManifest, IndexManifest]:
    """Embeddings and an index below ``output``, of the folders ``img_emb``, ``text_emb`` and ``metadata`` of ``source``.

    ``model`` names the one that made the vectors; without, rows are searched by what is like them, and not by words. Raises
    UserError where ``source`` is no such folder, or the vectors are not those of the model.
    """
    place = storage.resolve(source)
    found = {part: place / folder for part, folder in _FOLDERS.items() if storage.exists(place / folder)}
    if "images" not in found:
        raise UserError(
            f"{source} has no folder img_emb, which `clip-retrieval inference` writes; give its --output_folder, or for other "
            f"vectors type: clipmill import vectors --images {shlex.quote(source)} --output {shlex.quote(output)}"
        )
    identity = load_identity(model, reporter) if model.model or model.pretrained else None
    folder = output.rstrip("/")
    named = {part: place.uri for part, place in found.items()}
    vectors = ImportVectorsSettings(output=f"{folder}/{EMBEDDINGS}", overwrite=overwrite, **named)
    embeddings = import_vectors(vectors, reporter, identity).manifest
    indexing = IndexSettings(embeddings=vectors.output, output=f"{folder}/{INDEX}", overwrite=overwrite)
    return embeddings, index_stage(indexing, cluster, reporter).manifest
