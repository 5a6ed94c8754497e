"""Other formats to source Parquet: one file a format, each with one function of the same signature."""

from collections.abc import Callable

from pipeline.config import ImportSettings
from pipeline.source.importers.coco import read_coco
from pipeline.source.importers.csv import read_csv
from pipeline.source.importers.flickr8k import read_flickr8k
from pipeline.source.importers.folder import read_folder
from pipeline.source.importers.samples import Collection
from pipeline.source.importers.webdataset import read_webdataset
from pipeline.storage import Location

IMPORTERS: dict[str, Callable[[Location, ImportSettings], Collection]] = {
    "coco": read_coco,
    "flickr8k": read_flickr8k,
    "folder": read_folder,
    "csv": read_csv,
    "webdataset": read_webdataset,
}
