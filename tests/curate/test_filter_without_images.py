"""filter keeps and drops images: embeddings without any are refused with what else there is to do."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, FilterSettings
from clipmill.curate.filter import make_filter
from clipmill.runs.stages import embed_stage


def test_embeddings_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"caption": ["a dog", "a cat"]}), tmp_path / "in/data.parquet")
    embed = EmbedSettings(input=str(tmp_path / "in"), output=str(tmp_path / "vectors"))
    embed_stage(embed, ClusterSettings(device="cpu"), Silent())
    settings = FilterSettings(embeddings=embed.output, output=str(tmp_path / "out"), where="row > 3")
    with pytest.raises(UserError, match=r"has no images, and filter keeps and drops images: .*clipmill dedup"):
        make_filter(settings)
