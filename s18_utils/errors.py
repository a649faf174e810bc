"""The one exception that means: what was given does not fit, and the message says what to do about it.

And the way to files that raises it: paths that mean one thing everywhere, and writing that loses nothing.
"""

import contextlib
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

DAY = 86_400  # seconds
MARK = "s18_utils"  # in the pictures that commands write, which may then be written anew
LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, of most file systems


class InputError(ValueError):
    """A file, a name or a value that the user gave can't be used; command line and notebooks show it as one line."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))  # names in it may hold line breaks

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"{type(self).__name__}: {self}"]


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raises an InputError that lists the choices unless `value` is one of them."""
    if value not in choices:
        raise InputError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")


def local_path(path: str | Path) -> Path:
    """A path as it is meant everywhere in the package: on this machine, absolute, `~` the user's home.

    Raises:
        InputError: an address (`gs://…`, `s3:…`) or a chain of them (`a::b`), which libraries below would read as
            such, each in its own way; or what no file can be called.
    """
    text = os.fspath(path)
    if "::" in text or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
        raise InputError(f"{text} is no folder of this machine: mount it, and use the path where it is mounted")
    try:
        local = Path(os.path.abspath(Path(text).expanduser()))
        longest = max(len(os.fsencode(part)) for part in local.parts)
    except (RuntimeError, ValueError):  # the home of nobody, and characters that can't be encoded
        longest = LONGEST_PATH
    if "\0" in text or longest > LONGEST_NAME or len(os.fsencode(local)) > LONGEST_PATH:
        raise InputError(f"{ascii(text[:60])} can't be the path of a file: use another, of fewer or plainer characters")
    return local


def make_folder(folder: str | Path, remedy: str) -> Path:
    """Makes a folder, returns it as `local_path` does; an InputError with the `remedy` if it can't be written to."""
    folder = local_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no permission")
    except OSError as error:
        raise InputError(f"can't write to {folder} ({error.strerror or error}): {remedy}") from error
    return folder


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Where to write what is to become `file`: it is moved there in one step, so that nobody ever reads half of it, and
    a crash leaves what was there."""
    name = f".{zlib.crc32(os.fsencode(file.name)):x}.partial"  # short: the file's own may be the longest possible
    partial = file.with_name(name)
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Writes a text file in one step."""
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")


def check_overwritable(file: Path, mark: str) -> None:
    """Raises an InputError unless nothing is at `file`, or what this package wrote, which is told by a `mark` in it."""
    if file.is_dir():
        raise InputError(f"{file} is a folder: name a file")
    try:
        ours = not os.path.lexists(file) or mark.encode() in file.read_bytes()
    except OSError as error:
        raise InputError(f"can't read {file} ({error.strerror}), which is in the way: name another file") from error
    if not ours:
        raise InputError(f"{file} is there and was not made by this command: move it away, or name another file")


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Removes what killed processes left in a folder: all that fits the pattern and is older than a day."""
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # another process may be about to move it to its place
            if time.time() - path.stat().st_mtime > DAY:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
