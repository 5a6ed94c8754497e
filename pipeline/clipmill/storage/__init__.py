"""A URI in, a filesystem out (local, S3), and writes that publish everything or nothing."""

from clipmill.storage.listing import list_input
from clipmill.storage.location import Location, resolve
from clipmill.storage.outputs import (
    has_retired,
    holds_only,
    local_copy,
    publish,
    reference,
    remove_retired,
    resolve_output,
    staging_of,
)
from clipmill.storage.reading import (
    Opened,
    Versioned,
    bucket_is_absent,
    etag,
    exists,
    is_file,
    list_files,
    open_versioned,
    read_bytes,
    read_table,
    read_versioned,
    sha256,
    write_if,
)
from clipmill.storage.writing import atomic_writer, make_folder, remove, remove_files, write_bytes, write_table
from clipmill.storage.written import HashingStream, Written

__all__ = [
    "HashingStream",
    "Location",
    "Opened",
    "Versioned",
    "Written",
    "atomic_writer",
    "bucket_is_absent",
    "etag",
    "exists",
    "has_retired",
    "holds_only",
    "is_file",
    "list_files",
    "list_input",
    "local_copy",
    "make_folder",
    "open_versioned",
    "publish",
    "read_bytes",
    "read_table",
    "read_versioned",
    "reference",
    "remove",
    "remove_files",
    "remove_retired",
    "resolve",
    "resolve_output",
    "sha256",
    "staging_of",
    "write_bytes",
    "write_if",
    "write_table",
]
