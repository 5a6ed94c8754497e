"""Other formats to source Parquet: one file per format, each with one function of the same signature."""

from collections.abc import Callable

from clipmill.core.settings import ImportSettings
from clipmill.source.importers.coco import read_coco
from clipmill.source.importers.csv import read_csv
from clipmill.source.importers.flickr8k import read_flickr8k
from clipmill.source.importers.folder import read_folder
from clipmill.source.importers.samples import Collection
from clipmill.source.importers.webdataset import read_webdataset
from clipmill.storage import Location

IMPORTERS: dict[str, Callable[[Location, ImportSettings], Collection]] = {
    "coco": read_coco,
    "flickr8k": read_flickr8k,
    "folder": read_folder,
    "csv": read_csv,
    "webdataset": read_webdataset,
}
