"""An index built in this process, by the pieces that a cluster is given."""

from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Silent
from clipmill.engine.here import Here
from clipmill.index.build.build import Build
from clipmill.index.build.graph import make_index
from clipmill.index.search.open import open_index
from clipmill.index.search.search import Index
from clipmill.stage.stage import Made


def run_here(build: Build, cores: int = 1) -> IndexManifest:
    """Builds what is left of an index and publishes it, without a cluster."""
    return make_here(build, cores).manifest


def make_here(build: Build, cores: int = 1) -> Made[IndexManifest]:
    """As `run_here`; says too whether the index was there already."""
    return build.run(lambda work: make_index(build, work, Here(cores), Silent()))


def build_here(build: Build) -> Index:
    """The index of a build, published and opened."""
    run_here(build)
    return open_index(build.output.uri)
