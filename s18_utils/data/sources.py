"""Where the bytes of a data set come from: looked for in a fixed order, and never chosen silently.

1. `local`: the data directory, `$S18_DATA` or a per-user cache.
2. `kaggle`: what the platform mounts under `/kaggle/input`.
3. `huggingface`: a download from a mirror of the set into the data directory, for sets that have one.
4. `torchvision`: a download by torchvision into the data directory.
5. `synthetic`: drawn by `s18_utils.data.synthetic`, when asked for or when nothing else can be reached.
"""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_dir

from s18_utils.errors import InputError, check_choice

SOURCES = ("auto", "local", "kaggle", "huggingface", "torchvision", "synthetic")
KAGGLE_INPUT = Path("/kaggle/input")
PROBE_SECONDS = 6


class Found(NamedTuple):
    """The source that serves a data set, and the folder or file to read it from (none for `synthetic`)."""

    source: str
    root: Path | None


class Download(NamedTuple):
    """A server that has a data set, and what fetches the set from it into a folder."""

    url: str
    fetch: Callable[[Path], None]


def data_directory() -> Path:
    """`$S18_DATA`, or a folder of this package in the user's cache."""
    return Path(os.environ.get("S18_DATA") or user_cache_dir("s18")).expanduser().absolute()


def locate(reader, source: str = "auto") -> Found:
    """Finds a data set.

    Args:
        reader: the module that reads it, with `TITLE`, `URL`, `find(folder)` and `download(folder)`, and where there
            is a mirror also `MIRROR` and `download_mirror(folder)`.
        source: one of `SOURCES`; `auto` tries them in order, and the next download where one fails.

    Raises:
        InputError: an unknown source, one that was asked for by name and does not have the data, or a download that
            failed with no other to try.
    """
    check_choice("source", source, SOURCES)
    downloads = downloads_of(reader)
    if source == "huggingface" and source not in downloads:
        raise InputError(f"{reader.TITLE} has no mirror on Hugging Face: use source='torchvision' or 'auto'")
    if source in ("auto", "local"):
        if root := reader.find(data_directory()):
            return Found("local", root)
        if source == "local":
            raise InputError(f"{data_directory()} holds no {reader.TITLE}: put it there, or point S18_DATA at it")
    if source in ("auto", "kaggle"):
        for folder in mounted_folders():
            if root := reader.find(folder):
                return Found("kaggle", root)
        if source == "kaggle":
            raise InputError(
                f"nothing under {KAGGLE_INPUT} is {reader.TITLE}: add it as an input of the Kaggle notebook"
            )
    if source in downloads:
        if root := reader.find(data_directory()):  # an earlier download
            return Found(source, root)
        downloads = {source: downloads[source]}
    if source != "synthetic":
        if found := first_download(reader, downloads):
            return found
        if source != "auto":
            raise InputError(
                f"{reader.TITLE} is not in {data_directory()} and {downloads[source].url} can't be reached: "
                "connect to the network, or use source='synthetic'"
            )
    return Found("synthetic", None)


def downloads_of(reader) -> dict[str, Download]:
    """Where a data set can be downloaded, by source, in order."""
    downloads = {"torchvision": Download(reader.URL, reader.download)}
    if hasattr(reader, "MIRROR"):
        downloads = {"huggingface": Download(reader.MIRROR, reader.download_mirror)} | downloads
    return downloads


def first_download(reader, downloads: dict[str, Download]) -> Found | None:
    """The first download that works, or None where no server answers; the last one's error where some do in vain."""
    # All are asked at once: one after the other, without a network, would take as many times `PROBE_SECONDS`.
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(reachable, [download.url for download in downloads.values()]))
    failure = None
    for (source, download), answer in zip(downloads.items(), answers, strict=True):
        if answer:
            try:
                return Found(source, fetch(reader, download))
            except InputError as error:
                failure = error
    if failure:
        raise failure
    return None


def mounted_folders() -> list[Path]:
    """The folders of `/kaggle/input`, three levels deep, shallow ones first."""
    return [
        folder
        for level in range(1, 4)
        for folder in sorted(KAGGLE_INPUT.glob("/".join("*" * level)))
        if folder.is_dir()
    ]


def reachable(url: str) -> bool:
    """Whether a server answers at `url`, found out within `PROBE_SECONDS`.

    A thread does the asking because looking up a name can hang for a minute and takes no time limit.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # it answered, if only with an error
        except (OSError, HTTPException):
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


def fetch(reader, download: Download) -> Path:
    """Downloads a data set into the data directory and returns the folder or file to read it from."""
    folder = make_writable(data_directory())
    try:
        download.fetch(folder)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(
            ".:"
        )  # torchvision's run over many lines
        raise InputError(f"the download of {reader.TITLE} from {download.url} failed ({reason}): try again") from error
    root = reader.find(folder)
    if root is None:
        raise InputError(f"the download of {reader.TITLE} left {folder} incomplete: delete it there and try again")
    return root


def make_writable(folder: Path, remedy: str = "set S18_DATA to a folder that you can write to") -> Path:
    """Makes `folder` and returns it; an InputError with the `remedy` if it can't be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no permission")
    except OSError as error:
        raise InputError(f"can't write to {folder} ({error.strerror or error}): {remedy}") from error
    return folder
