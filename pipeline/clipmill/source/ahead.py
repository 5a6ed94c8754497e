"""Reading ahead: the next rows come while those before are used, where reading is mostly waiting."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clipmill.source.input_file import InputFile
from clipmill.source.locating import locate

Item = TypeVar("Item")
_END = object()


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order; the next is made in a thread while one is used. What making one raises comes where the
    item would have come."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield item  # type: ignore[misc]  # an item, since it is not the end
            del item  # or there are three while the next is made


def are_far(files: Sequence[InputFile]) -> bool:
    """Whether files lie where each request is waited for."""
    return any(not locate(file.path).is_local for file in files)
