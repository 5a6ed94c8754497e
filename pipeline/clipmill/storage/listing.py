"""What a folder of input holds, where nothing may go unseen: what cannot be counted as a file stops the listing."""

import errno
import os
from collections.abc import Callable, Iterator

import pyarrow.fs as fs

from clipmill.core.errors import RunFailed, UserError
from clipmill.storage.location import Location
from clipmill.storage.reading import list_files


def _is_hidden(path: str) -> bool:
    """Whether a name in a relative path begins with ``_`` or ``.``: such files and folders are passed over."""
    return any(part.startswith(("_", ".")) for part in path.split("/") if part)


def _all(path: str) -> bool:
    return True


def list_input(folder: Location, *, recursive: bool = True, wanted: Callable[[str], bool] = _all) -> list[fs.FileInfo]:
    """Files below a folder in byte order of their paths, without hidden ones; none when the folder is absent or a file.

    ``wanted`` is asked of paths relative to the folder; what it declines is not looked at. Links are followed. Raises
    UserError, naming the entry, for a link that leads nowhere or back to a folder above it, for a pipe, socket or device,
    for a folder that may not be read, and for a name that is not UTF-8: each would be rows that are missing, or there
    twice, without a word.
    """
    if folder.is_local:
        _refuse_odd(folder.path)
        found = list(_below(folder.path, "", (os.path.realpath(folder.path),), recursive, wanted))
    else:
        start = len(folder.path.rstrip("/")) + 1
        listed = list_files(folder, recursive=recursive)
        found = [info for info in listed if not _is_hidden(info.path[start:]) and wanted(info.path[start:])]
    return sorted(found, key=lambda info: info.path.encode())


def _refuse_odd(path: str) -> None:
    """Raises UserError for what is there and is neither a file nor a folder."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UserError(f"{path} is a pipe, socket or device; name a file, or a folder of files")


def _below(
    root: str, inside: str, above: tuple[str, ...], recursive: bool, wanted: Callable[[str], bool]
) -> Iterator[fs.FileInfo]:
    """The files of one folder and of those in it. ``above`` are the real paths of the folders that lead here."""
    try:
        entries = list(os.scandir(os.path.join(root, inside)))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unreadable(os.path.join(root, inside), error) from None
    for entry in entries:
        relative = f"{inside}/{entry.name}" if inside else entry.name
        if _is_hidden(entry.name):
            continue
        if _is_folder(entry):
            if recursive:
                real = os.path.realpath(entry.path)
                if real in above:
                    raise UserError(
                        f"{entry.path} is a link to {real}, a folder above it, so its files would be found again and again; "
                        "remove the link"
                    )
                yield from _below(root, relative, (*above, real), recursive, wanted)
        elif wanted(relative):
            yield _file(entry)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or through a folder that may not be entered: told as a file
        return False


def _file(entry: "os.DirEntry[str]") -> fs.FileInfo:
    try:
        entry.name.encode()
        status = entry.stat()
        if not entry.is_file():
            raise UserError(f"{entry.path} is a pipe, socket or device and not a file; remove it from the input")
    except UnicodeEncodeError:
        raise UserError(f"{entry.path!r}: the name is not valid UTF-8; rename the file") from None
    except OSError as error:
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            raise UserError(
                f"{entry.path} is a link to {os.readlink(entry.path)}, which is not there; mend the link or remove it: "
                "without it these rows would count as deleted"
            ) from None
        raise _unreadable(entry.path, error) from None
    return fs.FileInfo(entry.path, fs.FileType.File, size=status.st_size, mtime_ns=status.st_mtime_ns)


def _unreadable(path: str, error: OSError) -> UserError | RunFailed:
    if isinstance(error, PermissionError):
        return UserError(f"{path}: there is no permission to read this; give it, or leave this out of the input")
    if isinstance(error, FileNotFoundError):
        return RunFailed(f"{path} disappeared while the input was being listed; run the command again")
    return RunFailed(f"{path}: could not be read: {error.strerror}; run the command again")
