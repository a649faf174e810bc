"""CIFAR-10 (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html): ten kinds of objects, 32×32, in colour.

Read from torchvision's layout, `cifar-10-batches-py`; or from `cifar10.npz`; or from the files of a mirror on Hugging
Face, `cifar-10-parquet`; or from a folder of images per class in `train` and in `test`. The home server is very slow,
so a download first tries the mirror.
"""

import hashlib
import os
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.utils import disable_progress_bars
from PIL import Image
from torchvision.datasets import CIFAR10

from s18_utils.data import labelled, synthetic
from s18_utils.data.files import decode_all, list_class_folders, read_labelled
from s18_utils.data.sources import Download
from s18_utils.data.store import Tensors
from s18_utils.errors import InputError

TITLE = "CIFAR-10"
TRUTH = "label"  # what its images are read with
OFFICIAL = 50_000  # training images
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DRAWN_CLASSES = synthetic.OBJECT_CLASSES
SIZE = 32
BATCHES, PARQUET, NPZ = "cifar-10-batches-py", "cifar-10-parquet", "cifar10.npz"
SYNTHETIC = {"train": 20_000, "test": 500}

MIRROR = "uoft-cs/cifar10"
REVISION = "0b2714987fa478483af9968de7c934580d0bb9a2"
MIRROR_FILES = {"train": "train-00000-of-00001.parquet", "test": "test-00000-of-00001.parquet"}
# Of the labels, a byte each, in the order of the official batches: a mirror may not shuffle what others compare with.
LABELS_SHA256 = {
    "train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}


def fetch_mirror(folder: Path) -> None:
    """Fetches both splits (144 MB) from the mirror, at a fixed revision, and checks them by reading them."""
    if not sys.stderr.isatty():  # in a notebook or a log, progress bars would leave hundreds of lines
        disable_progress_bars()
    for name in MIRROR_FILES.values():
        hf_hub_download(MIRROR, f"plain_text/{name}", repo_type="dataset", revision=REVISION, local_dir=folder)
    os.replace(folder / "plain_text", folder / PARQUET)
    read_parquet(folder / PARQUET)


def fetch(folder: Path) -> None:
    """Fetches the batches (170 MB packed) from their home with torchvision, which checks them."""
    CIFAR10(str(folder), download=True)


DOWNLOADS = {
    "huggingface": Download(constants.ENDPOINT, fetch_mirror, PARQUET),
    "torchvision": Download(CIFAR10.url, fetch, BATCHES),
}


def find(folder: Path) -> Path | None:
    """The folder of the batches, `folder` or in it; else a file or folder in any of the other layouts."""
    for root in (folder / BATCHES, folder / PARQUET, folder):
        if any((root / name).is_file() for name in file_names(root)):  # one is enough: `files` names what is missing
            return root
    if (folder / NPZ).is_file():
        return folder / NPZ
    # CINIC-10 has other pictures of the same classes.
    return folder if "cinic" not in str(folder).lower() and list_class_folders(folder, CLASSES) else None


def file_names(root: Path) -> list[str]:
    """What the files of a layout are called that has a fixed number of them: the mirror's, or torchvision's."""
    if root.name == PARQUET:
        return list(MIRROR_FILES.values())
    return [name for name, _ in CIFAR10.train_list + CIFAR10.test_list] + [CIFAR10.meta["filename"]]


def files(root: Path) -> list[Path]:
    """All files that `read` reads; an InputError names a missing one."""
    if root.suffix == ".npz":
        return [root]
    if listed := list_class_folders(root, CLASSES):
        return [file for items in listed.values() for file, _ in items]
    found = [root / name for name in file_names(root)]
    for file in found:
        if not file.is_file():
            raise InputError(f"{file} is missing: put it there{or_download(root)}")
    return found


def or_download(root: Path) -> str:
    """The other remedy for files that are not whole, where the folder holds nothing else."""
    return f", or delete {root} to have CIFAR-10 downloaded" if root.name == BATCHES else ""


def draw(size: int = SIZE) -> Tensors:
    """Both splits, drawn; see `read`."""
    return labelled.draw_splits(synthetic.objects, SYNTHETIC, "label")


def read(root: Path, size: int = SIZE) -> Tensors:
    """Both splits from what `find` returned; an InputError names a file that is damaged or not what it should be.

    Returns:
        `train.image` and `test.image`, uint8 (N, 3, 32, 32), and `train.label` and `test.label`, uint8 (N,), numbers
        into `CLASSES`, or into `DRAWN_CLASSES` where they are drawn.
    """
    if root.suffix == ".npz":
        return labelled.read_npz(root, 3, SIZE)
    if root.name == PARQUET:
        return read_parquet(root)
    if listed := list_class_folders(root, CLASSES):
        return read_labelled(listed, SIZE, channels=3)
    return read_batches(root)


def read_parquet(root: Path) -> Tensors:
    """Both splits as the mirror has them: columns `img`, a struct whose `bytes` are a PNG, and `label`."""
    arrays = []
    for split, name in MIRROR_FILES.items():
        try:
            table = pyarrow.parquet.read_table(root / name, columns=["img", "label"]).flatten()
            pngs, labels = table["img.bytes"].to_pylist(), table["label"].to_numpy()
            images = np.stack(decode_all(lambda png: np.asarray(Image.open(BytesIO(png)).convert("RGB")), pngs))
        except labelled.UNREADABLE as error:
            raise InputError(f"can't read {root / name}, it is damaged: delete {root} and try again") from error
        if hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest() != LABELS_SHA256[split]:
            raise InputError(f"{name} does not hold the official labels in their order: delete {root} and try again")
        arrays += [(images, name), (labels, name)]
    return labelled.check_arrays(arrays, 3, SIZE)


def read_batches(root: Path) -> Tensors:
    """Both splits from torchvision's layout, by torchvision, which unpickles nothing but the official files."""

    class Batches(CIFAR10):
        base_folder = root.name  # a mounted folder may have any name

    try:
        splits = [Batches(root.parent, train=split == "train") for split in labelled.SPLITS]
    except (RuntimeError, OSError) as error:  # another checksum; or what may not be read
        raise InputError(
            f"the files in {root} are damaged: unpack cifar-10-python.tar.gz again{or_download(root)}"
        ) from error
    arrays = [(part, str(root)) for split in splits for part in (split.data, np.array(split.targets))]
    return labelled.check_arrays(arrays, 3, SIZE)
