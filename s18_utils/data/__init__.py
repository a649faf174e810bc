"""Data sets: where they come from, kept as tensors in a store, served as batches.

`open_data` is the way in; everything below it is reached from there.
"""

from typing import NamedTuple

from torch import Tensor

from s18_utils.data import pets
from s18_utils.data.sources import data_directory, locate
from s18_utils.data.store import open_store
from s18_utils.errors import InputError, check_choice

READERS = {"pets": pets}


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


def open_data(name: str, size: int, source: str = "auto") -> DataSet:
    """Finds a data set, decodes it into its store unless that was done before, and maps the store into memory.

    Args:
        name: `pets`.
        size: side of the images in pixels.
        source: where to take it from, see `sources`.

    Raises:
        InputError: an unknown name or source; data that is not there, or damaged; a folder that can't be written to.
    """
    check_choice("data set", name, READERS)
    if size < 16:
        raise InputError(f"images must be at least 16 pixels wide, not {size}: choose a larger size")
    reader = READERS[name]
    found = locate(reader, source)
    kind = "synthetic" if found.root is None else "real"
    path = data_directory() / "s18-store" / f"{name}-{kind}-{size}.safetensors"
    tensors, fingerprint = open_store(path, reader.stamp(found.root, size), lambda: reader.read(found.root, size))
    splits = {
        split: {key.split(".")[1]: tensor for key, tensor in tensors.items() if key.startswith(split)}
        for split in ("train", "test")
    }
    return DataSet(name, found.source, fingerprint, **splits)
