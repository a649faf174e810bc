"""Sets of labelled images as arrays: NumPy's `.npz`, MNIST's own file format, and the checks that both need.

In memory a set is `train.image` and `test.image`, uint8 (N, C, S, S), and `train.label` and `test.label`, uint8 (N,).
"""

import gzip
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s18_utils.data.store import Tensors
from s18_utils.errors import InputError

SPLITS = ("train", "test")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# Images and labels of `train`, then of `test`: the names that MNIST gave its files, and those made to replace it have.
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# What is raised for a file that is cut off or altered, packed in a way it can't be unpacked, or something else; `with`
# raises the last two for an `.npz` of a single array.
UNREADABLE = (OSError, EOFError, ValueError, LookupError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
UNREADABLE += (AttributeError, TypeError)

Named = tuple[np.ndarray, str]  # an array, and where it is, for messages


def read_npz(file: Path, channels: int, size: int) -> Tensors:
    """Both splits from an `.npz` file, as Keras made it common, with `ARRAYS`; see `check_arrays`."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            # What is no array in the archive comes as bytes.
            arrays = {name: np.asarray(archive[name]) for name in ARRAYS if name in archive.files}
    except UNREADABLE as error:
        raise InputError(f"can't read {file}, it is damaged or no .npz file: replace it") from error
    for name in ARRAYS:
        if name not in arrays:
            raise InputError(f"{file} has no {name}: save {', '.join(ARRAYS)} in it")
    return check_arrays([(arrays[name], f"{name} in {file}") for name in ARRAYS], channels, size)


def find_idx(folder: Path) -> Path | None:
    """Where files in MNIST's format are: `folder`, or the `raw` or `MNIST/raw` in it; one of the four is enough."""
    roots = (folder / "MNIST" / "raw", folder / "raw", folder)
    return next((root for root in roots if any(idx_file(root, name).is_file() for name in IDX_NAMES)), None)


def idx_file(root: Path, name: str) -> Path:
    """The file of that name, however it is spelt, packed, or put into a folder of its own; else where it should be."""
    dotted = name.replace("-idx", ".idx")
    spellings = (name, dotted, f"{name}.gz", f"{dotted}.gz", f"{name}/{name}", f"{dotted}/{dotted}")
    return next((root / spelling for spelling in spellings if (root / spelling).is_file()), root / name)


def list_idx(root: Path) -> list[Path]:
    """Images and labels of `train`, then of `test`; an InputError names a missing one."""
    files = [idx_file(root, name) for name in IDX_NAMES]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file} is missing: put it there, or delete what else of its set is in {root}")
    return files


def read_idx(root: Path, size: int | None, classes: int) -> Tensors:
    """Both splits from four files in MNIST's format, of any size where none is given; see `check_arrays`."""
    arrays = [(read_idx_file(file), str(file)) for file in list_idx(root)]
    return check_arrays(arrays, 1, size or max((16, *arrays[0][0].shape[1:2])), classes)


def read_idx_file(file: Path) -> np.ndarray:
    """The array in a file: two zeros, type 8 for bytes, the number of dimensions, each of them, the data."""
    try:
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if content[:3] != b"\0\0\x08":
            raise ValueError("not of bytes")
        shape = np.frombuffer(content, ">u4", content[3], 4).astype(np.int64)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy()
    except UNREADABLE as error:
        raise InputError(f"can't read {file}, it is damaged or not in MNIST's format: replace it") from error


def check_arrays(arrays: list[Named], channels: int, size: int, classes: int = 10) -> Tensors:
    """Images and labels of `train`, then of `test`, as tensors.

    Images may be (N, S, S, C), (N, C, S, S) or, in grey, (N, S, S); labels any integers, (N,) or (N, 1).

    Raises:
        InputError: a wrong type or shape, no images, another number of labels, a label beyond the classes.
    """
    tensors = {}
    for split, images, labels in zip(SPLITS, arrays[::2], arrays[1::2], strict=True):
        tensors[f"{split}.image"] = check_images(*images, channels, size)
        tensors[f"{split}.label"] = check_labels(*labels, classes)
        if len(images[0]) != len(labels[0]):
            raise InputError(
                f"{images[1]} holds {len(images[0])} images and {labels[1]} {len(labels[0])} labels: "
                "save one label per image"
            )
    return tensors


def check_images(images: np.ndarray, where: str, channels: int, size: int) -> Tensor:
    """Images of any of the shapes that `check_arrays` takes as uint8 (N, C, S, S)."""
    if images.dtype != np.uint8:
        raise InputError(f"{where} is of type {images.dtype}: save pixels as uint8, 0 to 255")
    shape = images.shape[1:]
    if shape == (size, size, channels):
        images = images.transpose(0, 3, 1, 2)
    elif channels == 1 and shape == (size, size):
        images = images[:, None]
    elif shape != (channels, size, size):
        expected = f"(N, {size}, {size})" if channels == 1 else f"(N, {size}, {size}, {channels})"
        raise InputError(f"{where} has the shape {images.shape}: save images as {expected}")
    if not len(images):
        raise InputError(f"{where} holds no images: replace the file by a complete one")
    return torch.from_numpy(np.ascontiguousarray(images))


def check_labels(labels: np.ndarray, where: str, classes: int) -> Tensor:
    """Labels as uint8 (N,)."""
    if labels.dtype.kind not in "iu":
        raise InputError(f"{where} is of type {labels.dtype}: save labels as integers, 0 to {classes - 1}")
    if labels.ndim not in (1, 2) or labels.shape[1:] not in ((), (1,)):
        raise InputError(f"{where} has the shape {labels.shape}: save one number per image, as (N,)")
    for label in (labels.min(initial=0), labels.max(initial=0)):
        if not 0 <= label < classes:
            raise InputError(f"{where} holds the label {label}: labels must be 0 to {classes - 1}")
    return torch.from_numpy(labels.reshape(-1).astype(np.uint8))


def draw_splits(
    drawing: Callable[..., tuple[Tensor, Tensor]], counts: dict[str, int], truth: str, *size: int
) -> Tensors:
    """Both splits of a synthetic set, so many images each, by one of `synthetic`'s functions."""
    tensors = {}
    for seed, split in enumerate(SPLITS):
        images, drawn = drawing(counts[split], *size, seed)
        tensors |= {f"{split}.image": images, f"{split}.{truth}": drawn.to(torch.uint8)}
    return tensors
