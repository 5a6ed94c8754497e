"""What `clipmill search --queries` does: a file of queries answered in this process, or by actors on Ray."""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmill import storage
from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Tally
from clipmill.core.settings import ClusterSettings
from clipmill.datasets.manifests import read_manifest
from clipmill.index.search.batch import search_batch
from clipmill.index.search.open import open_index
from clipmill.index.search.query_file import Encode
from clipmill_jobs.command import say
from clipmill_jobs.reporting import current

if TYPE_CHECKING:
    from clipmill.encoders.query import QueryEncoder


@dataclass(frozen=True)
class BatchQuery:
    """A file of queries and all that answering it needs. Both ways give the number of queries answered, and what to say of
    rows that --where selects."""

    index: str
    queries: str
    output: str
    k: int
    where: str | None
    model: str | None
    pretrained: str | None
    cache: Path
    trust_remote_code: bool = False
    resident: bool = False

    def here(self) -> tuple[int, dict[str, Any]]:
        index = open_index(self.index, self.cache, resident=self.resident)
        selection = None if self.where is None else index.select(self.where)
        narrowed = narrowed_by(self.where, None if selection is None else selection.count, index.n)
        answered = Tally(current(), "search", None, "queries").add
        encode = self._encode(index.manifest)
        return search_batch(index, self.queries, self.output, self.k, encode, selection, answered), narrowed

    def on_actors(self, actors: int, settings: ClusterSettings) -> tuple[int, dict[str, Any]]:
        from clipmill.engine.cluster import connect
        from clipmill.engine.search_actors import BatchSearch, search_on_actors

        manifest = read_manifest(storage.resolve(self.index), IndexManifest)
        asked = BatchSearch(
            self.index,
            manifest,
            self.queries,
            self.output,
            self.k,
            self.where,
            actors,
            self.cache.expanduser(),
            self.resident,
        )
        say("search", "connecting to Ray")
        with connect(settings) as cluster:
            answered = Tally(current(), "search", None, "queries").add
            done, selected = search_on_actors(
                asked, self._encode(manifest), cluster, settings.stall_timeout, partial(say, "search"), answered
            )
        return done, narrowed_by(self.where, selected, manifest.n)

    def _encode(self, manifest: IndexManifest) -> Encode:
        encoder = cache(partial(query_encoder, manifest, self.model, self.pretrained, self.trust_remote_code))
        return lambda texts: encoder().encode_texts(texts)


def narrowed_by(where: str | None, selected: int | None, n: int) -> dict[str, Any]:
    """What JSON says of the ``selected`` rows of ``n`` that a condition leaves (None: no condition); stderr is told too."""
    if selected is None:
        return {}
    say("search", f"{selected:,} of {n:,} rows meet --where")
    return {"where": where, "rows_selected": selected}


def query_encoder(
    manifest: IndexManifest, model: str | None, pretrained: str | None, trust_remote_code: bool
) -> "QueryEncoder":
    """What encodes queries with the model of an index."""
    from clipmill.encoders.query import QueryEncoder  # imports torch, which only texts and images need

    return QueryEncoder(manifest.model, model, pretrained, trust_remote_code=trust_remote_code)
