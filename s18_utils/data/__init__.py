"""Data sets: where they come from, kept as tensors in a store, served as batches.

`open_data` is the way in; everything below it is reached from there.
"""

from typing import NamedTuple

from torch import Tensor

from s18_utils.data import cifar10, mnist, pets, synthetic
from s18_utils.data.sources import data_directory, locate
from s18_utils.data.store import open_store
from s18_utils.errors import InputError, check_choice

READERS = {"pets": pets, "mnist": mnist, "cifar10": cifar10}


class DataSet(NamedTuple):
    """A data set in memory (mapped from its store).

    `train` and `test` map a name, `image` and `mask` or `label`, to a uint8 tensor of N rows. `source` is one of
    `sources.SOURCES` without `auto`, `fingerprint` identifies the contents.
    """

    name: str
    source: str
    fingerprint: str
    train: dict[str, Tensor]
    test: dict[str, Tensor]


def open_data(name: str, size: int | None = None, source: str = "auto") -> DataSet:
    """Finds a data set, decodes it into its store unless that was done before, and maps the store into memory.

    Args:
        name: `pets`, `mnist` or `cifar10`.
        size: side of the images in pixels, at least 16; may be left out for MNIST (28) and CIFAR-10 (32), which come
            in one size.
        source: where to take it from, see `sources`.

    Raises:
        InputError: an unknown name or source; a size that the set does not come in; data that is not there, or
            damaged; a folder that can't be written to.
    """
    check_choice("data set", name, READERS)
    reader = READERS[name]
    size = image_size(reader, size)
    found = locate(reader, source)
    kind = "synthetic" if found.root is None else "real"
    path = data_directory() / "s18-store" / f"{name}-{kind}-{size}.safetensors"
    tensors, fingerprint = open_store(path, reader.stamp(found.root, size), lambda: reader.read(found.root, size))
    splits = {
        split: {key.split(".")[1]: tensor for key, tensor in tensors.items() if key.startswith(split)}
        for split in ("train", "test")
    }
    return DataSet(name, found.source, fingerprint, **splits)


def image_size(reader, size: int | None) -> int:
    """The size to read a set at: its own, `SIZE`, if it has one, else the one asked for."""
    own = getattr(reader, "SIZE", None)
    if own:
        if size not in (None, own):
            raise InputError(f"images of {reader.TITLE} are {own} pixels wide, not {size}: leave the size out")
        return own
    if size is None:
        raise InputError(f"images of {reader.TITLE} come in many sizes: say how many pixels wide they should be")
    if size < 16:
        raise InputError(f"images must be at least 16 pixels wide, not {size}: choose a larger size")
    return size


def class_names(name: str, source: str) -> tuple[str, ...]:
    """The names of a data set's classes, in the order of their numbers; what is drawn has its own."""
    check_choice("data set", name, READERS)
    drawn = {"mnist": synthetic.DIGIT_CLASSES, "cifar10": synthetic.OBJECT_CLASSES}
    return drawn.get(name, READERS[name].CLASSES) if source == "synthetic" else READERS[name].CLASSES
