"""MNIST (LeCun et al. 1998, http://yann.lecun.com/exdb/mnist/): handwritten digits, 28×28, grey.

Read from torchvision's layout, `MNIST/raw` with its four files, or from `mnist.npz` (see `labelled`), or downloaded by
torchvision into its layout. A drawing of one's own becomes such a digit by `normalise_digit`.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from s18_utils.data import labelled, synthetic
from s18_utils.data.store import Tensors, stamp_files
from s18_utils.errors import InputError

TITLE = "MNIST"
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz"
OFFICIAL = 60_000  # training images
CLASSES = tuple("0123456789")
SIZE = 28
BOX = 20  # pixels: the longest side of a digit
GRAIN = 0.2  # what differs from the paper by less than this share of the strongest stroke is paper, not ink
FAINT = 25  # and so is what differs by less than this, of 255
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


def normalise_digit(picture: Image.Image) -> Tensor:
    """A drawing of one digit, centred and scaled as those of MNIST were.

    The ink is what differs from the paper, which is the picture's median. Its bounding box is scaled, antialiased, to
    20 pixels on its longest side, and put into 28×28 pixels with its centre of mass in row and column 14, counted from
    0 (LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition", section III.A;
    the 14 is what one finds in the files).

    Args:
        picture: of any size and mode, a dark pen on light paper or a light one on dark.

    Returns:
        float (1, 28, 28) in [0, 1], white on black, the strongest stroke 1.

    Raises:
        InputError: there is nothing on the paper.
    """
    picture = ImageOps.exif_transpose(picture).convert("RGBA")  # upright; what is transparent is white paper
    grey = np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("L"), np.float32)
    paper = np.median(grey)
    ink = paper - grey if paper > 127 else grey - paper
    ink = np.where(ink > max(GRAIN * ink.max(), FAINT), ink, 0)
    rows, columns = ink.any(1).nonzero()[0], ink.any(0).nonzero()[0]
    if not len(rows):
        raise InputError("there is no drawing in this picture: draw one digit, dark on light paper or light on dark")
    ink = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = BOX / max(ink.size)
    digit = np.asarray(ink.resize([max(1, round(side * scale)) for side in ink.size], Image.Resampling.BILINEAR))
    digit = digit / digit.max()
    image, corner = torch.zeros(1, SIZE, SIZE), []
    for side, mass in zip(digit.shape, (digit.sum(1), digit.sum(0)), strict=True):
        centre = (mass * np.arange(side)).sum() / mass.sum()
        corner.append(min(max(round(SIZE / 2 - centre), 0), SIZE - side))  # a lopsided digit stays whole
    top, left = corner
    image[0, top : top + digit.shape[0], left : left + digit.shape[1]] = torch.from_numpy(digit)
    return image
