"""The way to a data set: found, decoded into its store unless that was done before, and mapped into memory."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from s18_utils.data import cifar10, folder, mnist, pets, synthetic
from s18_utils.data.sources import cache_directory, data_directory, locate_data
from s18_utils.data.store import SMALLEST, DataSet, Tensors, open_store, read_store, stamp_files
from s18_utils.errors import InputError, local_path

READERS = {"pets": pets, "mnist": mnist, "cifar10": cifar10}
READING = 2  # goes up whenever files are read in another way, so that stores made before are noticed


def open_data(name: str | Path, size: int | None = None, source: str = "auto") -> DataSet:
    """Finds a data set, decodes it into its store unless that was done before, and maps the store into memory.

    Args:
        name: `pets`, `mnist` or `cifar10`, or the path of a folder of one's own, see `folder`.
        size: side of the images in pixels, at least 16; may be left out for MNIST (28), CIFAR-10 (32), and folders
            whose images are squares of one size.
        source: where to take it from, see `sources`; a folder of one's own is where it is.

    Raises:
        InputError: an unknown name or source; a size that the set does not come in; data that is not there, or
            damaged; a folder that can't be written to.
    """
    if name not in READERS:
        return open_folder(name, size)
    reader = READERS[name]
    if reader.SIZE and size not in (None, reader.SIZE):
        raise InputError(f"images of {reader.TITLE} are {reader.SIZE} pixels wide, not {size}: leave the size out")
    if not reader.SIZE and size is None:
        raise InputError(f"images of {reader.TITLE} come in many sizes: say how many pixels wide they should be")
    check_size(size)
    size = size or reader.SIZE
    source, root, files = locate_data(reader, source)
    if root is None:
        kind, classes, official, build = "synthetic", reader.DRAWN_CLASSES, None, partial(reader.draw, size)
        stamp = stamp_files([], data=name, synthetic=synthetic.VERSION, counts=reader.SYNTHETIC, size=size)
    else:
        kind, classes, official, build = "real", reader.CLASSES, reader.OFFICIAL, partial(reader.read, root, size)
        stamp = stamp_files(files, data=name, reading=READING, size=size)
    tensors, fingerprint = open_or_build(f"{name}-{kind}-{size}", stamp, build)
    return DataSet(name, reader.TITLE, source, fingerprint, tuple(classes), official, *by_split(tensors))


def open_folder(path: str | Path, size: int | None) -> DataSet:
    """A folder of one's own as a data set."""
    root = local_path(path)
    if not root.is_dir():
        raise InputError(f"unknown data set {str(path)!r}: choose one of {', '.join(READERS)}, or the path of a folder")
    check_size(size)
    key = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    stamp = stamp_files(folder.list_files(root), reading=READING, size=size)
    tensors, fingerprint = open_or_build(f"folder-{key}-{size}", stamp, partial(folder.read, root, size))
    check_size(tensors["train.image"].shape[-1])
    classes = folder.decode_names(tensors["classes"])
    return DataSet("folder", root.name, "local", fingerprint, classes, None, *by_split(tensors))


def check_size(size: int | None) -> None:
    if size is not None and size < SMALLEST:
        raise InputError(f"images must be at least {SMALLEST} pixels wide, not {size}: choose a larger size")


def open_or_build(stem: str, stamp: str, build: Callable[[], Tensors]) -> tuple[Tensors, str]:
    """`open_store` beside the data, or in the cache where what is beside them is stale or missing and can't be
    written."""
    beside, cached = (folder / "s18-store" / f"{stem}.safetensors" for folder in (data_directory(), cache_directory()))
    if os.access(beside.parent if beside.parent.is_dir() else data_directory(), os.W_OK):
        return open_store(beside, stamp, build)
    return read_store(beside, stamp) or open_store(cached, stamp, build)


def by_split(tensors: Tensors) -> list[Tensors]:
    """The tensors of `train` and of `test`, without these in their names."""
    named = [(*name.rpartition(".")[::2], tensor) for name, tensor in tensors.items()]
    return [{name: tensor for part, name, tensor in named if part == split} for split in ("train", "test")]
