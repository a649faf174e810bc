"""The one exception that means: what was given does not fit, and the message says what to do about it."""

import os
import re
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """A file, a name or a value that the user gave can't be used; the command line prints it as one line."""


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raises an InputError that lists the choices unless `value` is one of them."""
    if value not in choices:
        raise InputError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")


def local_path(path: str | Path) -> Path:
    """A path as it is meant everywhere in the package: on this machine, absolute, `~` the user's home.

    Raises:
        InputError: an address (`gs://…`, `s3:…`) or a chain of them (`a::b`), which libraries below would read as
            such, each in its own way.
    """
    text = os.fspath(path)
    if "::" in text or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
        raise InputError(f"{text} is no folder of this machine: mount it, and use the path where it is mounted")
    return Path(os.path.abspath(Path(text).expanduser()))


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
