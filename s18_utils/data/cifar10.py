"""CIFAR-10 (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html): ten kinds of objects, 32×32, in colour.

Read from torchvision's layout, `cifar-10-batches-py`, or from `cifar10.npz` (see `labelled`). The home server is very
slow, so a download first tries a mirror on Hugging Face, whose files are turned into a `cifar10.npz`; torchvision's
download from the home server goes into its own layout.
"""

import hashlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from s18_utils.data import labelled, synthetic
from s18_utils.data.store import Tensors, stamp_files
from s18_utils.errors import InputError

TITLE = "CIFAR-10"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
OFFICIAL = 50_000  # training images
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 32
LAYOUT = "cifar-10-batches-py"
NPZ = "cifar10.npz"
SYNTHETIC = {"train": 50_000, "test": 1000}

# A fixed revision, and the SHA-256 of each of its files.
MIRROR = "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2"
MIRROR_FILES = {
    "train": (
        "plain_text/train-00000-of-00001.parquet",
        "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    ),
    "test": (
        "plain_text/test-00000-of-00001.parquet",
        "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
    ),
}
# Of the labels, a byte each, in the order of the official batches: a mirror may not shuffle what others compare with.
LABELS_SHA256 = {
    "train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}


def find(folder: Path) -> Path | None:
    """The folder of the batches, either `folder` itself or its `cifar-10-batches-py`; else its `cifar10.npz`."""
    names = checksums()
    for root in (folder / LAYOUT, folder):
        # One file is enough: `files` then tells which of the others are missing.
        if any((root / name).is_file() for name in names):
            return root
    npz = folder / NPZ
    return npz if npz.is_file() else None


def download(folder: Path) -> None:
    """Fetches the batches (170 MB packed) from their home into `folder` with torchvision, which checks them."""
    from torchvision.datasets import CIFAR10

    labelled.download_files(lambda partial: CIFAR10(partial, download=True), folder, LAYOUT, checksums())


def download_mirror(folder: Path) -> None:
    """Fetches both splits (144 MB) from the mirror, checks them and writes `cifar10.npz` into `folder`.

    Raises:
        OSError: the mirror can't be reached, or the file can't be written.
        RuntimeError: what came is not what was expected.
    """
    tensors = {}
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        for split, (name, sha256) in MIRROR_FILES.items():
            file = Path(partial) / f"{split}.parquet"
            # A bar is drawn for people who watch a terminal; in a notebook or a log it would leave hundreds of lines.
            torch.hub.download_url_to_file(f"{MIRROR}/{name}", str(file), sha256, progress=sys.stderr.isatty())
            images, labels = decode_parquet(file)
            if hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest() != LABELS_SHA256[split]:
                raise RuntimeError(f"{name} does not hold the official labels in their order")
            tensors |= labelled.as_tensors(split, images, labels, name, name, 3, SIZE)
    labelled.write_npz(folder / NPZ, tensors)


def decode_parquet(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, 32, 32, 3), and labels, int64 (N,), of a split as the mirror has it, in the file's order.

    Its columns are `img`, a struct whose `bytes` are a PNG, and `label`.
    """
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file, columns=["img", "label"]).flatten()

    def decode(content: bytes) -> np.ndarray:
        return np.asarray(Image.open(BytesIO(content)).convert("RGB"))

    with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it decodes
        images = np.stack(list(pool.map(decode, table["img.bytes"].to_pylist())))
    return images, table["label"].to_numpy()


def checksums() -> dict[str, str]:
    """The MD5 sum of each file in torchvision's layout, by its name."""
    from torchvision.datasets import CIFAR10

    return dict(CIFAR10.train_list + CIFAR10.test_list) | {CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}


def files(root: Path) -> list[Path]:
    """The files that `read` reads: the batches and their list of classes, or the one `.npz`."""
    if root.suffix == ".npz":
        return [root]
    found = [root / name for name in checksums()]
    for file in found:
        if not file.is_file():
            raise InputError(
                f"{file} is missing: unpack cifar-10-python.tar.gz again, or delete {root} to have CIFAR-10 downloaded"
            )
    return found


def stamp(root: Path | None, size: int = SIZE) -> str:
    """Changes with any file that `read` would read, and with how it reads them."""
    if root is None:
        return stamp_files([], data=TITLE, synthetic=synthetic.VERSION, counts=SYNTHETIC, size=size)
    return stamp_files(files(root), data=TITLE, size=size)


def read(root: Path | None, size: int = SIZE) -> Tensors:
    """Both splits, from `root`, or drawn where that is None.

    Args:
        root: what `find` returned.
        size: always `SIZE`; `open_data` takes no other.

    Returns:
        `train.image` and `test.image`, uint8 (N, 3, 32, 32), and `train.label` and `test.label`, uint8 (N,), numbers
        into `CLASSES`, or into `synthetic.OBJECT_CLASSES` where they are drawn.

    Raises:
        InputError: a file is missing, damaged or not what it should be.
    """
    if root is None:
        return labelled.draw(synthetic.objects, SYNTHETIC)
    if root.suffix == ".npz":
        return labelled.read_npz(root, 3, SIZE)
    return read_batches(root)


def read_batches(root: Path) -> Tensors:
    """Both splits from torchvision's layout, by torchvision, which unpickles nothing but the official files."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    for file in files(root):
        try:
            intact = check_integrity(file, checksums()[file.name])
        except OSError as error:
            raise InputError(f"can't read {file} ({error.strerror or error}): allow it, or replace the file") from error
        if not intact:  # torchvision would say so too, but not which one
            raise InputError(
                f"{file} is damaged: unpack cifar-10-python.tar.gz again, or delete {root} to have CIFAR-10 downloaded"
            )

    class Batches(CIFAR10):
        base_folder = root.name  # a mounted folder may have any name

    tensors = {}
    for split in labelled.SPLITS:
        batches = Batches(root.parent, train=split == "train")
        tensors |= labelled.as_tensors(split, batches.data, np.array(batches.targets), str(root), str(root), 3, SIZE)
    return tensors
