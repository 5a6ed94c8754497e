"""clipmill: image/caption Parquet to CLIP embeddings, FAISS indices and retrieval reports.

    import clipmill
    clipmill.embed("photos/", "embeddings/")
    clipmill.build_index("embeddings/", "index/")
    clipmill.open_index("index/").search("two dogs", k=10)

Importing it imports nothing heavy: a function brings what it needs when it is called.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipmill.api.functions import (
        ask,
        build_index,
        caption,
        dedup,
        embed,
        evaluate,
        evaluate_texts,
        filter,
        recaption,
        run,
        verify,
    )
    from clipmill.api.results import Hit, HitLists, Hits
    from clipmill.api.searching import SearchIndex, open_index

__version__ = "0.1.0"

_FACE = {
    "ask": "functions",
    "build_index": "functions",
    "caption": "functions",
    "dedup": "functions",
    "embed": "functions",
    "evaluate": "functions",
    "evaluate_texts": "functions",
    "filter": "functions",
    "recaption": "functions",
    "run": "functions",
    "verify": "functions",
    "Hit": "results",
    "HitLists": "results",
    "Hits": "results",
    "SearchIndex": "searching",
    "open_index": "searching",
}
__all__ = [
    "Hit",
    "HitLists",
    "Hits",
    "SearchIndex",
    "ask",
    "build_index",
    "caption",
    "dedup",
    "embed",
    "evaluate",
    "evaluate_texts",
    "filter",
    "open_index",
    "recaption",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'clipmill' has no attribute {name!r}")
    return getattr(import_module(f"clipmill.api.{_FACE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_FACE])
