"""Oxford-IIIT Pet (Parkhi et al. 2012, https://www.robots.ox.ac.uk/~vgg/data/pets/): 37 breeds with trimaps.

Read from torchvision's layout, `oxford-iiit-pet/{images,annotations}`, or from Kaggle's, where each archive lies in a
folder of its own name, `images/images` and `annotations/annotations`. On disk a trimap holds 1 pet, 2 background,
3 border; in memory the classes are 0, 1, 2.
"""

import os
from pathlib import Path

import torch
from torchvision.datasets import OxfordIIITPet

from s18_utils.data import labelled, synthetic
from s18_utils.data.files import read_pairs
from s18_utils.data.sources import Download
from s18_utils.data.store import Tensors
from s18_utils.errors import InputError

TITLE = "Oxford-IIIT Pet"
TRUTH = "mask"  # what its images are read with
OFFICIAL = 3680  # training images
CLASSES = DRAWN_CLASSES = ("pet", "background", "border")
SIZE = None  # photographs come in many
SPLITS = {"train": "trainval.txt", "test": "test.txt"}
SYNTHETIC = {"train": 1024, "test": 256}

Pair = tuple[Path, Path]  # an image and its trimap


def fetch(folder: Path) -> None:
    """Fetches both archives (about 800 MB) with torchvision, which checks them."""
    OxfordIIITPet(str(folder), target_types="segmentation", download=True)


URL = "https://thor.robots.ox.ac.uk/pets/images.tar.gz"
DOWNLOADS = {"torchvision": Download(URL, fetch, "oxford-iiit-pet")}


def find(folder: Path) -> Path | None:
    """The folder with `images` and `annotations`: the `oxford-iiit-pet` in `folder`, or itself if it has the lists."""
    for root in (folder / "oxford-iiit-pet", folder):
        images, annotations = subfolders(root)
        listed = root != folder or any((annotations / listing).is_file() for listing in SPLITS.values())
        if listed and images.is_dir() and annotations.is_dir():
            return root
    return None


def subfolders(root: Path) -> tuple[Path, Path]:
    """The folder of the images and that of the annotations."""
    outer = root / "images", root / "annotations"
    inner = [folder / folder.name for folder in outer]
    return tuple(deep if deep.is_dir() else folder for deep, folder in zip(inner, outer, strict=True))


def list_pairs(root: Path) -> dict[str, list[Pair]]:
    """Image and trimap of every entry of the official splits, `train` (trainval) and `test`.

    Raises:
        InputError: a list or a file is missing, or an image is listed twice: it would be trained on and scored on.
    """
    images, annotations = subfolders(root)
    pairs, seen = {}, {}
    for split, listing in SPLITS.items():
        names = read_list(annotations / listing)
        pairs[split] = [(images / f"{name}.jpg", annotations / "trimaps" / f"{name}.png") for name in names]
        for name, pair in zip(names, pairs[split], strict=True):
            if name in seen:
                where = f"{listing} twice" if seen[name] == listing else f"both {seen[name]} and {listing}"
                raise InputError(f"{name} stands in {where}: list each image once")
            seen[name] = listing
            for file in pair:
                if not os.path.isfile(file):  # unlike Path's it minds no name that is too long
                    raise InputError(f"{file} is missing though {listing} lists it: unpack the archives again")
    return pairs


def read_list(listing: Path) -> list[str]:
    """The names in the file that lists a split."""
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"can't read {listing} ({reason}): unpack annotations.tar.gz again") from error
    names = [line.split()[0] for line in lines if line.strip() and line[0] != "#"]
    if not names:
        raise InputError(f"{listing} lists no images: unpack annotations.tar.gz again")
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise InputError(f"{listing} lists {name}, which lies elsewhere: unpack annotations.tar.gz again")
    return names


def files(root: Path) -> list[Path]:
    """All images and trimaps, and the lists; an InputError names what is missing or listed wrongly."""
    listings = [subfolders(root)[1] / name for name in SPLITS.values()]
    return [file for pairs in list_pairs(root).values() for pair in pairs for file in pair] + listings


def draw(size: int) -> Tensors:
    """Both splits, drawn; see `read`."""
    return labelled.draw_splits(synthetic.pets, SYNTHETIC, "mask", size)


def read(root: Path, size: int) -> Tensors:
    """Both splits at `size`×`size` pixels, from what `find` returned.

    Returns:
        `train.image` and `test.image`, uint8 (N, 3, size, size), and `train.mask` and `test.mask`, uint8
        (N, size, size) with classes 0–2.

    Raises:
        InputError: a file is missing, damaged or not what it should be.
    """
    tensors = {}
    for split, pairs in list_pairs(root).items():
        images, masks = read_pairs(pairs, size, allowed={1, 2, 3})
        tensors |= {f"{split}.image": images, f"{split}.mask": (masks - 1).to(torch.uint8)}
    return tensors
