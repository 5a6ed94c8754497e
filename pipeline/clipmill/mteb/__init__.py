"""Models and indices in MTEB's benchmarks of texts, pictures and sounds.

    import mteb
    import clipmill.mteb

    model = clipmill.mteb.encoder("ViT-B-32", "laion2b_s34b_b79k")
    mteb.evaluate(model, mteb.get_tasks(["Flickr30kT2IRetrieval"]))
    mteb.evaluate(clipmill.mteb.index_search(model, memory="24MB"), mteb.get_tasks(["Flickr30kT2IRetrieval"]))

Importing it imports neither mteb nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipmill.mteb.encoding import MtebEncoder, encoder
    from clipmill.mteb.searching import IndexBackend, index_search

_FACE = {"MtebEncoder": "encoding", "encoder": "encoding", "IndexBackend": "searching", "index_search": "searching"}
__all__ = ["IndexBackend", "MtebEncoder", "encoder", "index_search"]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'clipmill.mteb' has no attribute {name!r}")
    return getattr(import_module(f"clipmill.mteb.{_FACE[name]}"), name)
