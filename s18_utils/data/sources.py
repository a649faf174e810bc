"""Where the bytes of a data set come from: looked for in a fixed order, and never chosen silently.

1. `local`: the data directory, `$S18_DATA` or a per-user cache.
2. `kaggle`: what the platform mounts under `/kaggle/input`.
3. `huggingface`: a download from a mirror of the set into the data directory, for sets that have one.
4. `torchvision`: a download by torchvision into the data directory.
5. `synthetic`: drawn by `s18_utils.data.synthetic`, when asked for or when nothing else can be reached.

A reader, the module of a set, has its `TITLE`; `find(folder)`, the folder or file to read from or None; `files(root)`,
all that is read, which raises an InputError where some is missing; and `DOWNLOADS`, a `Download` by source.
"""

import functools
import itertools
import os
import re
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_dir

from s18_utils.errors import InputError, check_choice, local_path, make_folder, remove_leftovers
from s18_utils.report.progress import display_message

SOURCES = ("auto", "local", "kaggle", "huggingface", "torchvision", "synthetic")
KAGGLE_INPUT = Path("/kaggle/input")
KAGGLE_DEPTH = 6  # /kaggle/input/datasets/<owner>/<set>/cifar10/cifar10
LISTED = 1000  # entries of one of Kaggle's folders that are looked at; where there are more, they are images
PROBE_SECONDS = 5
REMEMBERED_SECONDS = 300  # how long a server that did not answer is taken to be out of reach


class Location(NamedTuple):
    """The source that serves a data set, the folder or file to read it from, and all files in it that are read."""

    source: str
    root: Path | None = None  # as for `synthetic`
    files: list[Path] | None = None


class Download(NamedTuple):
    """A server that has a data set, what fetches the set from it, and the folder of the set that this makes."""

    url: str
    fetch: Callable[[Path], object]
    layout: str


def cache_directory() -> Path:
    """A folder of this package in the user's cache."""
    return Path(user_cache_dir("s18")).absolute()


def data_directory() -> Path:
    """`$S18_DATA`, or the cache; S18_DATA is not made, as it may be mistyped."""
    if not (named := os.environ.get("S18_DATA")):
        return cache_directory()
    folder = local_path(named)
    if not folder.is_dir():
        raise InputError(f"S18_DATA names {folder}, which is no folder: correct the name, or make the folder first")
    return folder


def locate_data(reader, source: str = "auto") -> Location:
    """Finds a reader's data set, and displays what was passed over on the way.

    Raises:
        InputError: an unknown source, one that was asked for by name and does not have the data, a set in the data
            directory that lacks files, or a download that failed with no other to try.
    """
    check_choice("source", source, SOURCES)
    downloads = {name: server for name, server in reader.DOWNLOADS.items() if source in ("auto", name)}
    if source == "huggingface" and not downloads:
        raise InputError(f"{reader.TITLE} has no mirror on Hugging Face: use source='torchvision' or 'auto'")
    folder, notes = data_directory(), []
    if source not in ("kaggle", "synthetic"):
        if root := reader.find(folder):
            return Location("local", root, reader.files(root))  # whoever put it there, a download of ours or not
        if source == "local":
            raise InputError(f"{folder} holds no {reader.TITLE}: put it there, or point S18_DATA at it")
        notes += [f"S18_DATA ({folder}) holds no {reader.TITLE}"] if os.environ.get("S18_DATA") else []
    if source in ("auto", "kaggle"):
        location, passed_over = find_mounted(reader)
        notes += [f"passed over under {KAGGLE_INPUT}: {', '.join(passed_over)}"] if passed_over else []
        if location:
            display_notes(*notes, f"{reader.TITLE} is read from {location.root}")
            return location
        if source == "kaggle":
            nothing = "; ".join([f"nothing under {KAGGLE_INPUT} is {reader.TITLE}", *notes])
            raise InputError(f"{nothing}: add it as an input of the Kaggle notebook")
    if source != "synthetic":
        if location := download_first(reader, downloads, folder, notes):
            return location
        if source != "auto":
            raise InputError(
                f"{reader.TITLE} is not in {folder} and {downloads[source].url} can't be reached: "
                "connect to the network, or use source='synthetic'"
            )
        display_notes(*notes, f"no server that has {reader.TITLE} can be reached", "synthetic data stand in for it")
    return Location("synthetic")


def find_mounted(reader) -> tuple[Location | None, list[str]]:
    """Where under `/kaggle/input` a data set lies whole, and what was passed over: all inputs where it lies nowhere."""
    passed_over = {}
    for folder in mounted_folders():
        if (root := reader.find(folder)) and root not in passed_over:
            try:
                return Location("kaggle", root, reader.files(root)), list(passed_over.values())
            except InputError as error:
                passed_over[root] = f"{root.relative_to(KAGGLE_INPUT)} ({str(error).rpartition(': ')[0]})"
    inputs = itertools.chain(*map(KAGGLE_INPUT.glob, ("*", "datasets/*/*", "competitions/*")))
    names = sorted(path.name for path in inputs if path.name not in ("datasets", "competitions"))
    return None, list(passed_over.values()) or names


def mounted_folders() -> Iterator[Path]:
    """The folders under `/kaggle/input`, shallow ones first."""
    level = [KAGGLE_INPUT]
    for _ in range(KAGGLE_DEPTH):
        level = [folder for parent in level for folder in list_folders(parent, LISTED)]
        yield from level


def list_folders(parent: Path, most: int | None = None) -> list[Path]:
    """The folders among the entries of a folder, or among its first ones, by name; none where it can't be read."""
    try:
        with os.scandir(parent) as entries:
            seen = [entry for entry in itertools.islice(entries, most) if entry.is_dir()]
        return sorted(Path(entry.path) for entry in seen if not entry.name.startswith("."))  # .ipynb_checkpoints
    except OSError:
        return []


def download_first(reader, downloads: dict[str, Download], folder: Path, notes: list[str]) -> Location | None:
    """Downloads from the first server that has the set; None where none answers; the last one's error if all fail."""
    # All are asked at once: one after the other, without a network, would take as many times `PROBE_SECONDS`.
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(reachable, [server.url for server in downloads.values()]))
    failure = None
    for (source, server), answer in zip(downloads.items(), answers, strict=True):
        if answer:
            display_notes(*notes, f"{reader.TITLE} is downloaded by {source} into {folder}")
            try:
                return Location(source, *download(reader, server, folder))
            except InputError as error:
                failure, notes = error, [str(error)]
    if failure:
        raise failure
    return None


def download(reader, server: Download, folder: Path) -> tuple[Path, list[Path]]:
    """Downloads a data set into a folder, whole or not at all; returns where to read it from, and the files there."""
    target = make_folder(folder, "set S18_DATA to a folder that you can write to") / server.layout
    remove_leftovers(folder, ".partial-*")
    try:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder, ignore_cleanup_errors=True) as partial:
            server.fetch(Path(partial))
            if not reader.find(folder):  # another process may have been faster
                os.replace(Path(partial, server.layout), target)
        if (root := reader.find(folder)) is None:
            raise FileNotFoundError(f"{server.layout} is not in it")
        return root, reader.files(root)
    except Exception as error:  # of many kinds: each of the libraries that download has its own
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = re.split(r"\n|\. ", text)[0].rstrip(".: ")
        remedy = f"move {target} elsewhere and try again" if target.exists() else "try again"
        raise InputError(f"the download of {reader.TITLE} from {server.url} failed ({reason}): {remedy}") from error


def reachable(url: str) -> bool:
    """Whether a server answers at `url`, found out within `PROBE_SECONDS`, and at once where it did not lately."""
    return ask_server(url, int(time.monotonic() / REMEMBERED_SECONDS))


@functools.cache
def ask_server(url: str, period: int) -> bool:
    """Asks, in a thread, because looking up a name can hang for a minute and takes no time limit; once a period."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # it answered, if only with an error
        except (OSError, HTTPException, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


@functools.cache
def display_notes(*notes: str) -> None:
    """Displays notes as one sentence, the same ones once in a process."""
    text = "; ".join(notes)
    display_message(text[0].upper() + text[1:] + ".", warning=len(notes) > 1)
