"""MNIST (LeCun et al. 1998, http://yann.lecun.com/exdb/mnist/): handwritten digits, 28×28, grey.

Read from its four files, in torchvision's layout (`MNIST/raw`) or any folder; or from `mnist.npz`; or from
`mnist_train.csv` and `mnist_test.csv`; or from a folder of images per digit in `training` and in `testing`.
"""

from pathlib import Path

import numpy as np
import torchvision.datasets

from s18_utils.data import labelled, synthetic
from s18_utils.data.files import list_class_folders, read_labelled
from s18_utils.data.sources import Download
from s18_utils.data.store import Tensors
from s18_utils.errors import InputError

TITLE = "MNIST"
TRUTH = "label"  # what its images are read with
OFFICIAL = 60_000  # training images
CLASSES = tuple("0123456789")
DRAWN_CLASSES = synthetic.DIGIT_CLASSES
SIZE = 28
SYNTHETIC = {"train": 20_000, "test": 500}
CSV = ("mnist_train.csv", "mnist_test.csv")
LOOKALIKES = ("fashion", "kmnist", "kuzushiji", "emnist", "notmnist")  # other things in files of the same names


def fetch(folder: Path) -> None:
    """Fetches the four files (11 MB packed) with torchvision, which checks them."""
    torchvision.datasets.MNIST(str(folder), download=True)


URL = "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz"
DOWNLOADS = {"torchvision": Download(URL, fetch, "MNIST")}


def find(folder: Path) -> Path | None:
    """The folder of the four files, `folder` or below it; else a file or folder in any of the other layouts."""
    if (root := labelled.find_idx(folder)) and not is_named(root, LOOKALIKES):
        return root
    for file in (folder / "mnist.npz", folder / CSV[0]):
        if file.is_file():
            return file
    for root in (folder, folder / "mnist_png"):
        if is_named(root, ("mnist",)) and not is_named(root, LOOKALIKES) and list_class_folders(root, CLASSES):
            return root
    return None


def is_named(root: Path, words: tuple[str, ...]) -> bool:
    """Whether its name, or those of the two folders around it, contain one of the words."""
    return any(word in part.lower() for part in root.parts[-3:] for word in words)


def files(root: Path) -> list[Path]:
    """All files that `read` reads; an InputError names a missing one."""
    if root.suffix == ".npz":
        return [root]
    if root.suffix == ".csv":
        if not root.with_name(CSV[1]).is_file():
            raise InputError(f"{root.with_name(CSV[1])} is missing: put it beside {CSV[0]}")
        return [root.with_name(name) for name in CSV]
    if listed := list_class_folders(root, CLASSES):
        return [file for items in listed.values() for file, _ in items]
    return labelled.list_idx(root)


def draw(size: int = SIZE) -> Tensors:
    """Both splits, drawn; see `read`."""
    return labelled.draw_splits(synthetic.digits, SYNTHETIC, "label")


def read(root: Path, size: int = SIZE) -> Tensors:
    """Both splits from what `find` returned; an InputError names a file that is damaged or not what it should be.

    Returns:
        `train.image` and `test.image`, uint8 (N, 1, 28, 28), white on black, and `train.label` and `test.label`,
        uint8 (N,), numbers into `CLASSES`, or into `DRAWN_CLASSES` where they are drawn.
    """
    if root.suffix == ".npz":
        return labelled.read_npz(root, 1, SIZE)
    if root.suffix == ".csv":
        return labelled.check_arrays([part for name in CSV for part in read_csv(root.with_name(name))], 1, SIZE)
    if listed := list_class_folders(root, CLASSES):
        return read_labelled(listed, SIZE, channels=1)
    return labelled.read_idx(root, SIZE, len(CLASSES))


def read_csv(file: Path) -> list[labelled.Named]:
    """Images, uint8 (N, 28, 28), and labels (N,): a row is a label and 784 pixels, after a line of names or none."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            named = not lines.read(1).isdigit()
            lines.seek(0)
            rows = np.loadtxt(lines, np.uint8, delimiter=",", skiprows=int(named), ndmin=2)
        return [(rows[:, 1:].reshape(-1, SIZE, SIZE), str(file)), (rows[:, 0], str(file))]
    except labelled.UNREADABLE as error:
        raise InputError(f"can't read {file}, its rows are not a label and 784 pixels, 0 to 255: replace it") from error
