"""MNIST (LeCun et al. 1998, http://yann.lecun.com/exdb/mnist/): handwritten digits, 28×28, grey.

Read from torchvision's layout, `MNIST/raw` with its four files, or from `mnist.npz` (see `labelled`), or downloaded by
torchvision into its layout.
"""

from pathlib import Path

from s18_utils.data import labelled, synthetic
from s18_utils.data.store import Tensors, stamp_files
from s18_utils.errors import InputError

TITLE = "MNIST"
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz"
OFFICIAL = 60_000  # training images
CLASSES = tuple("0123456789")
SIZE = 28
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NAMES = [name for pair in FILES.values() for name in pair]
LOOKALIKES = ("fashion", "kmnist", "kuzushiji")  # sets of other things in files of the same names
SYNTHETIC = {"train": 20_000, "test": 1000}


def find(folder: Path) -> Path | None:
    """The folder `raw`, either `folder` itself or inside it or its `MNIST`; else the file `mnist.npz` in `folder`."""
    for root in (folder / "MNIST" / "raw", folder / "raw", folder):
        is_other = any(word in root.parent.name.lower() for word in LOOKALIKES)
        # One file is enough: `files` then tells which of the others are missing.
        if root.name == "raw" and not is_other and any((root / name).is_file() for name in NAMES):
            return root
    npz = folder / "mnist.npz"
    return npz if npz.is_file() else None


def download(folder: Path) -> None:
    """Fetches the four files (11 MB packed) into `folder` with torchvision, which checks them."""
    from torchvision.datasets import MNIST

    labelled.download_files(lambda partial: MNIST(partial, download=True), folder, "MNIST/raw", NAMES)


def files(root: Path) -> list[Path]:
    """The files that `read` reads: images and labels of `train`, then of `test`, or the one `.npz`."""
    if root.suffix == ".npz":
        return [root]
    found = [root / name for name in NAMES]
    for file in found:
        if not file.is_file():
            raise InputError(f"{file} is missing: put it there, or delete {root} to have MNIST downloaded again")
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
        `train.image` and `test.image`, uint8 (N, 1, 28, 28), white on black, and `train.label` and `test.label`,
        uint8 (N,), 0–9.

    Raises:
        InputError: a file is missing, damaged or not what it should be.
    """
    if root is None:
        return labelled.draw(synthetic.digits, SYNTHETIC)
    if root.suffix == ".npz":
        return labelled.read_npz(root, 1, SIZE)
    from torchvision.datasets.mnist import read_image_file, read_label_file

    tensors, paths = {}, files(root)
    for split, image_file, label_file in zip(FILES, paths[::2], paths[1::2], strict=True):
        images = read_idx(read_image_file, image_file)
        labels = read_idx(read_label_file, label_file)
        tensors |= labelled.as_tensors(split, images, labels, str(image_file), str(label_file), 1, SIZE)
    return tensors


def read_idx(reader, file: Path):
    """A file as an array, by one of torchvision's readers; an InputError names a file that it can't read."""
    try:
        return reader(str(file)).numpy()
    # The readers check little: a damaged header fails wherever it happens to hurt first.
    except (OSError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"can't read {file}, it is damaged or no file of MNIST: "
            f"replace it, or delete {file.parent} to have MNIST downloaded again"
        ) from error
