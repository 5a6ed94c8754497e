"""An index file made elsewhere, taken over where the user asks for it.

FAISS trusts what it reads: a file made to harm can name sizes that exhaust memory, and more. So sizes in it may not exceed
that of the file, and only kinds that can be searched here are kept; a file whose origin is unknown is still not safe to read.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from faiss.contrib.factory_tools import reverse_index_factory

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.datasets.manifests import vectors_of
from clipmill.index.build.belong import codes_match, sampled_positions
from clipmill.index.build.factory import nlist_of
from clipmill.index.build.gallery import Gallery
from clipmill.index.faiss_file import limits
from clipmill.storage import Location

_READ_BYTES = 1 << 20
_KINDS = (
    faiss.IndexFlat,
    faiss.IndexIVF,
    faiss.IndexPQ,
    faiss.IndexPQFastScan,
    faiss.IndexScalarQuantizer,
    faiss.IndexHNSW,
    faiss.IndexRaBitQ,
)


@dataclass(frozen=True)
class Foreign:
    """The file, its sha256 when it was looked at, and what it holds: in FAISS's terms, and in inverted lists."""

    location: Location
    sha256: str
    factory: str
    nlist: int


def look_at_foreign(uri: str, gallery: Gallery) -> Foreign:
    """What an index file is. Raises UserError where it is not one that can be searched here over this gallery."""
    location = storage.resolve(uri)
    if not storage.exists(location) or not location.filesystem.get_file_info(location.path).is_file:
        raise UserError(f"--foreign {uri}: there is no such file")
    index = _read(location)
    _refuse_unsearchable(location, index, gallery)
    return Foreign(location, storage.sha256(location), _factory(index), nlist_of(index))


def read_foreign(foreign: Foreign) -> Any:
    """The index with its vectors. Raises UserError where the file is another by now."""
    if not storage.exists(foreign.location) or storage.sha256(foreign.location) != foreign.sha256:
        raise UserError(f"--foreign {foreign.location} is gone or was changed since this command began; run it again")
    index = _read(foreign.location)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.set_direct_map_type(faiss.DirectMap.NoMap)
    return index


def refuse_other_vectors(foreign: Foreign, index: Any, gallery: Gallery) -> None:
    """Raises UserError unless position i of the index stands for the vector at position i of the gallery."""
    positions = sampled_positions(gallery.n)
    vectors = [
        vectors_of(batch.column("embedding"))
        for position in positions.tolist()
        for batch in gallery.batches(position, position + 1, ["embedding"], 1024)
    ]
    if not codes_match(index, positions, np.concatenate(vectors).astype(np.float32), index):
        raise UserError(
            f"--foreign {foreign.location} holds other vectors than {gallery.dataset.location}, or the same in another order: "
            "import the very files that it was built from, in the order in which they were added to it"
        )


def _read(location: Location) -> Any:
    with location.filesystem.open_input_stream(location.path) as stream, limits(_size(location)):
        try:
            return faiss.read_index(faiss.PyCallbackIOReader(stream.read, _READ_BYTES))
        except RuntimeError as error:
            reason = str(error).rpartition("Error: ")[2].partition("\n")[0].strip()
            raise UserError(
                f"--foreign {location}: FAISS cannot read it ({reason[:200]}); it is no index, is damaged or cut short, or "
                f"was written by a FAISS newer than {faiss.__version__}"
            ) from None


def _size(location: Location) -> int:
    return int(location.filesystem.get_file_info(location.path).size)


def _refuse_unsearchable(location: Location, index: Any, gallery: Gallery) -> None:
    inner = whole = faiss.downcast_index(index)  # what is inside lives only as long as the index that was read
    if isinstance(whole, faiss.IndexPreTransform):
        inner = faiss.downcast_index(whole.index)
    if not isinstance(inner, _KINDS):
        raise UserError(
            f"--foreign {location}: an {type(inner).__name__} cannot be searched here; build the index anew"
        )
    if isinstance(inner, faiss.IndexIVF):
        lists = faiss.downcast_InvertedLists(inner.invlists)
        if not isinstance(lists, (faiss.ArrayInvertedLists, faiss.BlockInvertedLists)):
            raise UserError(
                f"--foreign {location}: its lists are in another file ({type(lists).__name__}); give an index in one file"
            )
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise UserError(f"--foreign {location} compares by distance and not by inner product; build the index anew")
    if (index.ntotal, index.d) != (gallery.n, gallery.dimension):
        raise UserError(
            f"--foreign {location} holds {index.ntotal:,} vectors of {index.d} dimensions, and {gallery.dataset.location} has "
            f"{gallery.n:,} {gallery.part} of {gallery.dimension}: give the embeddings that it was built from"
        )


def _factory(index: Any) -> str:
    try:
        return str(reverse_index_factory(faiss.downcast_index(index)))
    except (NotImplementedError, AssertionError):
        return type(faiss.downcast_index(index)).__name__
