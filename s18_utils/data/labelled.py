"""What the sets of labelled images, MNIST and CIFAR-10, have in common: their `.npz` file, its checks, their downloads.

In memory a set is `train.image` and `test.image`, uint8 (N, C, S, S), and `train.label` and `test.label`, uint8 (N,)
with classes 0–9. Its file, which Keras made common, holds the same as `x_train`, `y_train`, `x_test` and `y_test`.
"""

import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s18_utils.data.store import Tensors
from s18_utils.errors import InputError

SPLITS = ("train", "test")
CLASSES = 10
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# What NumPy raises for a file that is cut off or altered, packed in a way it can't unpack, or something else;
# `with` raises the last two for a file of a single array.
UNREADABLE = (OSError, EOFError, ValueError, LookupError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
UNREADABLE += (AttributeError, TypeError)


def read_npz(file: Path, channels: int, size: int) -> Tensors:
    """Both splits from an `.npz` file.

    Images may be (N, S, S, C), (N, C, S, S) or, in grey, (N, S, S); labels (N,) or (N, 1).

    Raises:
        InputError: the file can't be read, or an array in it is missing or not what it should be.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            # What is no array in the archive comes as bytes.
            arrays = {name: np.asarray(archive[name]) for name in ARRAYS if name in archive.files}
    except UNREADABLE as error:
        raise InputError(f"can't read {file}, it is damaged or no .npz file: replace it") from error
    for name in ARRAYS:
        if name not in arrays:
            raise InputError(f"{file} has no {name}: save {', '.join(ARRAYS)} in it")
    tensors = {}
    for split in SPLITS:
        images, labels = f"x_{split}", f"y_{split}"
        at = f"{images} in {file}", f"{labels} in {file}"
        tensors |= as_tensors(split, arrays[images], arrays[labels], *at, channels, size)
    return tensors


def as_tensors(
    split: str, images: np.ndarray, labels: np.ndarray, images_at: str, labels_at: str, channels: int, size: int
) -> Tensors:
    """One split's arrays, in any of the shapes that `read_npz` takes, as tensors.

    Args:
        split: `train` or `test`.
        images: uint8.
        labels: any integers, 0–9.
        images_at: where the images are, for messages.
        labels_at: where the labels are.
        channels: C of the set.
        size: S of the set.

    Raises:
        InputError: a wrong type or shape, no images, another number of labels, a label beyond 0–9.
    """
    if images.dtype != np.uint8:
        raise InputError(f"{images_at} is of type {images.dtype}: save pixels as uint8, 0 to 255")
    if labels.dtype.kind not in "iu":
        raise InputError(f"{labels_at} is of type {labels.dtype}: save labels as integers, 0 to 9")
    shape = images.shape[1:]
    if shape == (size, size, channels):
        images = images.transpose(0, 3, 1, 2)
    elif channels == 1 and shape == (size, size):
        images = images[:, None]
    elif shape != (channels, size, size):
        expected = f"(N, {size}, {size})" if channels == 1 else f"(N, {size}, {size}, {channels})"
        raise InputError(f"{images_at} has the shape {images.shape}: save images as {expected}")
    if labels.ndim not in (1, 2) or labels.shape[1:] not in ((), (1,)):
        raise InputError(f"{labels_at} has the shape {labels.shape}: save one number per image, as (N,)")
    if not len(images):
        raise InputError(f"{images_at} holds no images: replace the file by a complete one")
    if len(images) != len(labels):
        raise InputError(
            f"{images_at} holds {len(images)} images and {labels_at} {len(labels)} labels: save one label per image"
        )
    if labels.min() < 0 or labels.max() >= CLASSES:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"{labels_at} holds the label {wrong}: labels must be 0 to 9")
    return {
        f"{split}.image": torch.from_numpy(np.ascontiguousarray(images)),
        f"{split}.label": torch.from_numpy(labels.reshape(-1).astype(np.uint8)),
    }


def write_npz(file: Path, tensors: Tensors) -> None:
    """The inverse of `read_npz`; the file is moved into place in one step, so that nobody ever reads half of it."""
    arrays = {}
    for split in SPLITS:
        images = tensors[f"{split}.image"].permute(0, 2, 3, 1)
        arrays[f"x_{split}"] = (images.squeeze(3) if images.shape[3] == 1 else images).numpy()
        arrays[f"y_{split}"] = tensors[f"{split}.label"].numpy()
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=file.parent) as partial:
        np.savez(Path(partial) / file.name, **arrays)
        os.replace(Path(partial) / file.name, file)


def draw(drawing: Callable[[int, int], tuple[Tensor, Tensor]], counts: dict[str, int]) -> Tensors:
    """Both splits of a synthetic set, by `synthetic.digits` or `synthetic.objects`."""
    tensors = {}
    for seed, split in enumerate(SPLITS):
        images, labels = drawing(counts[split], seed)
        tensors |= {f"{split}.image": images, f"{split}.label": labels.to(torch.uint8)}
    return tensors


def download_files(download: Callable[[str], object], folder: Path, inside: str, names: Iterable[str]) -> None:
    """Has torchvision download and unpack a set elsewhere, then moves what is needed to where it belongs.

    Otherwise an interrupted download would leave half a set that looks like a whole one, and archives beside it.

    Args:
        download: downloads into the folder it is given.
        folder: the data directory.
        inside: the folder in it that holds the files.
        names: the files.
    """
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        download(partial)
        (folder / inside).mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(Path(partial) / inside / name, folder / inside / name)
