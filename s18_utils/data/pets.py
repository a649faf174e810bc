"""Oxford-IIIT Pet (Parkhi et al. 2012, https://www.robots.ox.ac.uk/~vgg/data/pets/): 37 breeds with trimaps.

Read from torchvision's layout, `oxford-iiit-pet/{images,annotations}`, or downloaded by torchvision into it. On disk a
trimap holds 1 pet, 2 background, 3 border; in memory the classes are 0, 1, 2.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from s18_utils.data import synthetic
from s18_utils.data.store import Tensors, stamp_files
from s18_utils.errors import InputError

TITLE = "Oxford-IIIT Pet"
URL = "https://thor.robots.ox.ac.uk/pets/images.tar.gz"
OFFICIAL = 3680  # training images
CLASSES = ("pet", "background", "border")
SPLITS = {"train": "trainval.txt", "test": "test.txt"}
SYNTHETIC = {"train": 1024, "test": 256}


def find(folder: Path) -> Path | None:
    """The folder with `images` and `annotations`, either `folder` itself or its `oxford-iiit-pet`."""
    for root in (folder / "oxford-iiit-pet", folder):
        if (root / "images").is_dir() and (root / "annotations").is_dir():
            return root
    return None


def download(folder: Path) -> None:
    """Fetches both archives (about 800 MB) into `folder` with torchvision, which checks them."""
    from torchvision.datasets import OxfordIIITPet

    OxfordIIITPet(str(folder), target_types="segmentation", download=True)


def pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Image and trimap of every entry of the official split, `train` (trainval) or `test`."""
    listing = root / "annotations" / SPLITS[split]
    try:
        names = [line.split()[0] for line in listing.read_text().splitlines() if line.strip() and line[0] != "#"]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"can't read {listing} ({reason}): unpack annotations.tar.gz again") from error
    if not names:
        raise InputError(f"{listing} lists no images: unpack annotations.tar.gz again")
    found = [(root / "images" / f"{name}.jpg", root / "annotations" / "trimaps" / f"{name}.png") for name in names]
    for file in (file for pair in found for file in pair):
        if not file.is_file():
            raise InputError(f"{file} is missing though {listing.name} lists it: unpack the archives again")
    return found


def stamp(root: Path | None, size: int) -> str:
    """Changes with any file that `read` would read, and with how it reads them."""
    if root is None:
        return stamp_files([], data=TITLE, synthetic=synthetic.VERSION, counts=SYNTHETIC, size=size)
    files = [file for split in SPLITS for pair in pairs(root, split) for file in pair]
    return stamp_files(files + [root / "annotations" / name for name in SPLITS.values()], data=TITLE, size=size)


def read(root: Path | None, size: int) -> Tensors:
    """Both splits at `size`×`size` pixels, from `root`, or drawn where that is None.

    Returns:
        `train.image` and `test.image`, uint8 (N, 3, size, size), and `train.mask` and `test.mask`, uint8
        (N, size, size) with classes 0–2.
    """
    tensors = {}
    for seed, split in enumerate(SPLITS):
        if root is None:
            images, masks = synthetic.pets(SYNTHETIC[split], size, seed)
        else:
            with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it decodes
                decoded = list(pool.map(lambda pair: read_pair(*pair, size), pairs(root, split)))
            images, masks = (torch.stack(part) for part in zip(*decoded, strict=True))
        tensors[f"{split}.image"], tensors[f"{split}.mask"] = images, masks
    return tensors


def read_pair(image_file: Path, mask_file: Path, size: int) -> tuple[Tensor, Tensor]:
    """One photograph and its trimap, squeezed to `size`×`size`: uint8 (3, size, size) and (size, size).

    The photograph is resized with antialiased bilinear filtering. The trimap takes the nearest pixel: filtering would
    blend pet (0) and border (2) into background (1).
    """
    image, mask = open_image(image_file).convert("RGB"), open_image(mask_file)
    if image.size != mask.size:
        raise InputError(
            f"{image_file} is {image.width}×{image.height} and {mask_file.name} {mask.width}×{mask.height}: "
            "replace them by a pair of one size"
        )
    values = np.asarray(mask)
    if values.ndim != 2 or values.min() < 1 or values.max() > 3:
        raise InputError(f"{mask_file} holds values outside 1–3: a trimap is 1 for pet, 2 for background, 3 for border")
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    mask = mask.resize((size, size), Image.Resampling.NEAREST)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return pixels, torch.from_numpy(np.array(mask, dtype=np.uint8)) - 1


def open_image(file: Path) -> Image.Image:
    """Decodes an image file; an InputError names a file that can't be decoded."""
    try:
        image = Image.open(file)
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"can't decode {file} ({error}): replace the file, or take it off the list") from error
    return image


def write(root: Path, images: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
    """Lays images and masks, keyed by split, out as torchvision expects them: the inverse of `read`, for trials."""
    for folder in ("images", "annotations/trimaps"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, listing in SPLITS.items():
        names = [f"{split}_{number}" for number in range(len(images[split]))]
        for name, image, mask in zip(names, images[split], masks[split], strict=True):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / "images" / f"{name}.jpg", quality=90)
            Image.fromarray((mask + 1).numpy()).save(root / "annotations" / "trimaps" / f"{name}.png")
        (root / "annotations" / listing).write_text("".join(f"{name} 1 1 1\n" for name in names))
