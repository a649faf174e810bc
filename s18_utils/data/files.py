"""Files of images and masks, read as arrays: pairs of both, and folders of images that are named after their class."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from s18_utils.data.pictures import ORIENTATION, open_image, read_picture, resize_picture
from s18_utils.data.sources import list_folders
from s18_utils.data.store import Tensors
from s18_utils.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
SPLIT_NAMES = {
    "train": ("train", "training", "trainset", "trainingset"),
    "test": ("test", "testing", "testset", "val", "valid", "validation"),  # the first that there is
}
GREY_MODES = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")

Listed = dict[str, list[tuple[Path, int]]]  # by split, images with the numbers of their classes


class Mask(NamedTuple):
    """A mask's numbers, int32 (H, W); which of them occur; and where it has a palette the colours of these."""

    values: np.ndarray
    numbers: list[int]
    colours: dict[int, tuple[int, int, int]]


def list_images(folder: Path) -> list[Path]:
    """The image files in a folder, by name, told by their suffix; hidden ones are left out."""
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    except OSError as error:
        raise InputError(f"can't read {folder} ({error.strerror}): allow it, or choose another folder") from error


def open_file(file: Path) -> Image.Image:
    """Decodes an image file, the first frame of several; an InputError names a file that can't be decoded."""
    try:
        image, _ = open_image(file)
        image.load()
        return image
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them stumble over
        reason = error.__cause__ or error
        raise InputError(f"can't decode {file} ({reason}): replace the file, or take it off the list") from error


def decode_all(decode: Callable, items: Iterable) -> list:
    """What `decode` makes of each item, in order, by several threads: Pillow frees the interpreter while it decodes."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(decode, items))


def read_mask(file: Path) -> Mask:
    """A mask at its own size: the numbers of a grey image, or the indices of one with a palette.

    Raises:
        InputError: it is in colour without a palette, partly transparent, or its numbers are not whole.
    """
    image = open_file(file)
    values, grey = np.asarray(image), True
    if values.ndim == 3:  # grey where all channels but an opaque alpha are equal
        transparent = image.mode.endswith("A") and (values[..., -1] < 255).any()
        channels = values[..., : 1 if image.mode == "LA" else 3]
        grey = image.mode in ("LA", "RGB", "RGBA") and not transparent and (channels == channels[..., :1]).all()
        values = channels[..., 0]
    if not grey or (values.dtype.kind == "f" and (values % 1 != 0).any()):
        raise InputError(f"{file} is in colour, transparent or of fractions: save masks in grey, one number a class")
    # Sorting, as `np.unique` does, would take longer than all the rest.
    numbers = np.bincount(values.ravel()).nonzero()[0] if values.itemsize == 1 else np.unique(values).astype(int)
    colours = {}
    if image.mode == "P":
        palette = dict(enumerate(np.array(image.getpalette("RGB")).reshape(-1, 3).tolist()))
        colours = {number: tuple(palette.get(number, (0, 0, 0))) for number in numbers.tolist()}
    return Mask(values.astype(np.int32), numbers.tolist(), colours)


def read_pair(image_file: Path, mask_file: Path, size: int) -> tuple[Tensor, Mask]:
    """A photograph, uint8 (3, size, size), and its mask, (size, size), both squeezed to that size.

    The photograph is turned as its orientation tag says, unless the mask fits it unturned alone. It is resized with
    antialiased bilinear filtering. The mask takes the nearest pixel: filtering would blend classes 0 and 2 into 1.
    """
    image, mask = open_file(image_file), read_mask(mask_file)
    height, width = mask.values.shape
    try:
        tag = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a picture with a broken tag is a picture
        tag = 1
    upright = image.size[::-1] if tag in (5, 6, 7, 8) else image.size
    if upright != (width, height) and image.size == (width, height):
        image.getexif()[ORIENTATION] = 1  # the mask was drawn on the photograph as it lies in the file
    elif upright != (width, height):
        turned = " (turned as its orientation tag says)" if tag != 1 else ""
        raise InputError(
            f"{image_file} is {upright[0]}×{upright[1]}{turned} and {mask_file.name} {width}×{height}: "
            "replace them by a pair of one size"
        )
    values = np.array(Image.fromarray(mask.values).resize((size, size), Image.Resampling.NEAREST))
    return torch.from_numpy(convert(image, image_file, size)).permute(2, 0, 1), mask._replace(values=values)


def convert(image: Image.Image, file: Path, size: int) -> np.ndarray:
    """An image as upright RGB squeezed into a square, uint8 (size, size, 3); the file is named where that can't be."""
    try:
        return np.array(resize_picture(read_picture(image), size))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def read_pairs(
    pairs: Sequence[tuple[Path, Path]], size: int, allowed: set[int] | None = None
) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Images, uint8 (N, 3, size, size), their masks, int32 (N, size, size), and the numbers that each mask holds.

    Args:
        pairs: files of an image and its mask.
        size: side of what is returned, in pixels.
        allowed: the numbers that masks may hold, where that is known.

    Raises:
        InputError: a file can't be read or does not fit the other; or the masks' palettes contradict each other.
    """
    images, masks = zip(*decode_all(lambda pair: read_pair(*pair, size), pairs), strict=True)
    masks = apply_palettes(masks, [file for _, file in pairs], allowed)
    values = torch.from_numpy(np.stack([mask.values for mask in masks]))
    return torch.stack(images), values, [mask.numbers for mask in masks]


def apply_palettes(masks: Sequence[Mask], files: Sequence[Path], allowed: set[int] | None) -> list[Mask]:
    """The masks with the numbers that their palettes say, where they do.

    A palette of greys says the numbers itself: programs that pack images put them in any order. A palette in colour, or
    of greys that masks may not hold, is for the eye, and the indices are the numbers, if all masks agree on it.
    """
    if all(are_numbers(mask.colours, allowed) for mask in masks):
        return [apply_greys(mask) if mask.colours else mask for mask in masks]
    seen: dict[int, tuple[tuple, Path]] = {}
    for mask, file in zip(masks, files, strict=True):
        for index, colour in mask.colours.items():
            known, first = seen.setdefault(index, (colour, file))
            if known != colour:
                raise InputError(
                    f"the number {index} is {colour} in the palette of {file} and {known} in that of {first.name}: "
                    "save all masks with one palette, or in grey"
                )
    return list(masks)


def apply_greys(mask: Mask) -> Mask:
    """A mask's indices replaced by the greys of its palette."""
    grey = np.zeros(256, np.int32)
    grey[list(mask.colours)] = [red for red, _, _ in mask.colours.values()]
    return Mask(grey[mask.values], grey[mask.numbers].tolist(), {})


def are_numbers(colours: dict[int, tuple[int, int, int]], allowed: set[int] | None) -> bool:
    """Whether colours are greys, all different, that masks may hold; also where there are none."""
    greys = {red for red, green, blue in colours.values() if red == green == blue}
    return len(greys) == len(colours) and (allowed is None or greys <= allowed)


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of `train` and `test` in `root`, as far as there are any, under one of `SPLIT_NAMES` each."""
    folders = {folder.name.lower(): folder for folder in list_folders(root)}
    found = {split: [folders[name] for name in names if name in folders] for split, names in SPLIT_NAMES.items()}
    return {split: choices[0] for split, choices in found.items() if choices}


def list_class_folders(root: Path, classes: Sequence[str]) -> Listed | None:
    """The images of both splits, where `root` has both and in each a folder for every class; else None."""
    splits = split_folders(root)
    whole = len(splits) == 2 and all((folder / name).is_dir() for folder in splits.values() for name in classes)
    return list_labelled(splits, classes) if whole else None


def list_labelled(splits: dict[str, Path], classes: Sequence[str]) -> Listed:
    """Every image in the splits' folders of classes."""
    return {
        split: [
            (file, number)
            for number, name in enumerate(classes)
            if (folder / name).is_dir()
            for file in list_images(folder / name)
        ]
        for split, folder in splits.items()
    }


def read_labelled(listed: Listed, size: int | None, channels: int | None = None) -> Tensors:
    """Images, uint8 (N, C, S, S), and labels, uint8 (N,), of every split.

    Args:
        listed: what `list_labelled` returned.
        size: S; None to leave the images as they are, if all are squares of one size.
        channels: C of a known set, whose images are to be of its very size; by default grey where all images are.
    """
    for split, items in listed.items():
        if not items:
            raise InputError(f"there are no {split} images in the folders of the classes: put some there")
    side = size or open_file(next(iter(listed.values()))[0][0]).width

    def decode(item: tuple[Path, int]) -> np.ndarray:
        image = open_file(item[0])
        if image.size != (side, side) and (size is None or channels):
            raise InputError(
                f"{item[0]} is {image.width}×{image.height} and not {side}×{side}: choose a size, or resize the images"
            )
        pixels = convert(image, item[0], side)
        grey = image.mode in GREY_MODES or (pixels == pixels[..., :1]).all()
        return pixels[..., :1] if grey else pixels

    images = decode_all(decode, [item for items in listed.values() for item in items])
    most = max(image.shape[2] for image in images)
    if channels and most > channels:
        raise InputError("images in colour are in the folders of a grey set: replace them")
    whole = np.stack([np.broadcast_to(image, (side, side, channels or most)) for image in images])
    parts = torch.from_numpy(whole).permute(0, 3, 1, 2).split([len(items) for items in listed.values()])
    tensors = {f"{split}.image": part for split, part in zip(listed, parts, strict=True)}
    labels = {split: [number for _, number in items] for split, items in listed.items()}
    return tensors | {f"{split}.label": torch.tensor(part, dtype=torch.uint8) for split, part in labels.items()}
