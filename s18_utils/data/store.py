"""The on-disk store: a data set decoded once, as uint8 tensors in one safetensors file that is mapped into memory."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from s18_utils.errors import InputError, make_folder, remove_leftovers

Tensors = dict[str, Tensor]
Batch = dict[str, Tensor]
SMALLEST = 16  # pixels: the side of the smallest images, which a UNet halves four times


class DataSet(NamedTuple):
    """A data set in memory, mapped from its store."""

    name: str  # `pets`, `mnist`, `cifar10`, or `folder` for one of one's own
    title: str  # what it is called in a sentence
    source: str  # one of `sources.SOURCES` without `auto`
    fingerprint: str  # identifies the contents
    classes: tuple[str, ...]  # their names, in the order of their numbers
    official: int | None  # training images of the official split; None for a folder of one's own, and where drawn
    train: Tensors  # `image`, uint8 (N, C, S, S), and `mask`, uint8 (N, S, S), or `label`, uint8 (N,)
    test: Tensors  # the same

    @property
    def synthetic(self) -> bool:
        """Whether the package drew it."""
        return self.source == "synthetic"

    @property
    def truth(self) -> str:
        """What belongs to an image: `mask` or `label`."""
        return "mask" if "mask" in self.train else "label"

    @property
    def channels(self) -> int:
        """C of the images."""
        return self.train["image"].shape[1]

    @property
    def size(self) -> int:
        """The side of the images in pixels."""
        return self.train["image"].shape[-1]


def open_store(path: Path, stamp: str, build: Callable[[], Tensors]) -> tuple[Tensors, str]:
    """The tensors stored at `path` and their fingerprint; built first where they are missing, stale or damaged.

    Any number of processes may do this at once: each that finds no good store builds one under a name of its own and
    moves it into place in one step, so that nobody ever reads half a file.

    Args:
        path: where the store is, or will be.
        stamp: describes what goes in; a store with another stamp is stale.
        build: makes the tensors.

    Raises:
        InputError: the folder can't be written to, or the disk is full.
    """
    if (stored := read_store(path, stamp)) is not None:
        return stored
    make_folder(path.parent, "set S18_DATA to a folder that you can write to")
    remove_leftovers(path.parent, f".{path.stem}-*.partial")
    tensors = {name: tensor.contiguous() for name, tensor in build().items()}
    metadata = {"stamp": stamp, "fingerprint": fingerprint(tensors)}
    partial = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.partial")
    try:
        save_file(tensors, partial, metadata)
        os.chmod(partial, 0o644)  # it is written as private, but a data directory may be shared
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        # Windows does not let go of a store that another process has open; theirs is as good as ours.
        if (stored := read_store(path, stamp)) is not None:
            return stored
        raise InputError(f"can't write {path} ({error}): free some space, or set S18_DATA to another folder") from error
    finally:
        partial.unlink(missing_ok=True)
    return read_store(path, stamp) or (tensors, metadata["fingerprint"])


def read_store(path: Path, stamp: str) -> tuple[Tensors, str] | None:
    """The tensors and fingerprint of the store at `path`, or None if it is missing, stale or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("stamp") != stamp:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError):
        return None
    intact = metadata.get("fingerprint") == fingerprint(tensors)
    return (tensors, metadata["fingerprint"]) if intact else None


def save_tensors(tensors: Tensors, file: Path) -> None:
    """Writes tensors with their fingerprint, by which `load_tensors` notices if they are no longer the same."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, file, {"fingerprint": fingerprint(tensors)})


def load_tensors(file: Path) -> Tensors:
    """The tensors in a file; a SafetensorError if it is damaged, as far as a fingerprint in it tells."""
    content = file.read_bytes()  # at once: the file may be replaced meanwhile
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    known = header.get("__metadata__", {}).get("fingerprint")
    if known not in (None, fingerprint(tensors)):
        raise SafetensorError("its contents have changed")
    return tensors


def fingerprint(tensors: Tensors) -> str:
    """The first 16 hex digits of a SHA-256 over names, shapes and contents."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.numpy())
    return digest.hexdigest()[:16]


def stamp_files(files: list[Path], **details) -> str:
    """A stamp of files that changes when one is added, removed, moved, resized or written to, or a detail differs."""
    digest = hashlib.sha256(repr(sorted(details.items())).encode())
    for file in sorted(files):
        status = file.stat()
        # A name with its folders up to the split's: the set as a whole may be moved.
        digest.update(f"{'/'.join(file.parts[-3:])} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def to_floats(batch: Batch) -> Batch:
    """A uint8 batch with `image` as float in [0, 1] and everything else as int64."""
    return {name: tensor / 255 if name == "image" else tensor.long() for name, tensor in batch.items()}


def evenly_spread(length: int, count: int) -> Tensor:
    """Up to `count` row numbers from the first to the last of `length` rows."""
    return torch.linspace(0, length - 1, min(count, length)).long()
