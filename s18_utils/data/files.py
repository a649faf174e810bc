"""Files of images and masks, read as arrays: pairs of both, and folders of images that are named after their class."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from s18_utils.data.pictures import open_image, read_picture, resize_picture, turn_upright
from s18_utils.data.sources import list_folders
from s18_utils.data.store import Tensors
from s18_utils.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
SPLIT_NAMES = {
    "train": ("train", "training", "trainset", "trainingset"),
    "test": ("test", "testing", "testset", "val", "valid", "validation"),  # the first that there is
}

Colour = tuple[int, int, int]
Listed = dict[str, list[tuple[Path, int]]]  # by split, images with the numbers of their classes


class Mask(NamedTuple):
    """A mask's numbers, int32 (H, W); which of them occur; and where it has a palette the colours of these."""

    values: np.ndarray
    numbers: list[int]
    colours: dict[int, Colour]


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
    whole = values.dtype.kind != "f" or ((values % 1 == 0) & (abs(values) < 2**31)).all()
    if not grey or not whole:
        raise InputError(f"{file} is in colour, transparent or of fractions: save masks in grey, one number a class")
    # Sorting, as `np.unique` does, would take longer than all the rest.
    numbers = np.bincount(values.ravel()).nonzero()[0] if values.itemsize == 1 else np.unique(values).astype(int)
    colours = {}
    if image.mode == "P":
        palette = np.resize(np.array(image.getpalette("RGB"), int), (256, 3))
        colours = {number: tuple(palette[number].tolist()) for number in numbers.tolist()}
    return Mask(values.astype(np.int32), numbers.tolist(), colours)


def read_pairs(pairs: Sequence[tuple[Path, Path]], size: int, allowed: set[int] | None = None) -> tuple[Tensor, Tensor]:
    """Images, uint8 (N, 3, size, size), and their masks, int32 (N, size, size), squeezed to that size.

    Photographs are resized with antialiased bilinear filtering. A mask takes the nearest pixel: filtering would blend
    classes 0 and 2 into 1.

    Args:
        pairs: files of an image and its mask.
        size: side of what is returned, in pixels.
        allowed: the numbers that masks may hold, where that is known.

    Raises:
        InputError: a file can't be read or does not fit the other; a number that is not allowed; or masks whose
            palettes contradict each other.
    """

    def read_pair(pair: tuple[Path, Path]) -> tuple[np.ndarray, Mask]:
        mask = read_mask(pair[1])
        picture = read_photograph(*pair, mask.values.shape[::-1])
        values = np.array(Image.fromarray(mask.values).resize((size, size), Image.Resampling.NEAREST))
        return np.array(resize_picture(picture, size)), mask._replace(values=values)

    images, masks = zip(*decode_all(read_pair, pairs), strict=True)
    masks = apply_palettes(masks, [file for _, file in pairs], allowed)
    for mask, (_, file) in zip(masks, pairs, strict=True):
        if allowed and not set(mask.numbers) <= allowed:
            raise InputError(
                f"{file} holds values outside {min(allowed)}–{max(allowed)}: save it with one number a class"
            )
    values = torch.from_numpy(np.stack([mask.values for mask in masks]))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), values


def read_photograph(file: Path, mask_file: Path, size: tuple[int, int]) -> Image.Image:
    """A photograph as RGB as a mask of that width and height shows it: upright, else as it lies in its file."""
    image = open_file(file)
    upright = turn_upright(image)
    if size not in (upright.size, image.size):
        turned = " (turned as its orientation tag says)" if upright.size != image.size else ""
        raise InputError(
            f"{file} is {upright.width}×{upright.height}{turned} and {mask_file.name} {size[0]}×{size[1]}: "
            "replace them by a pair of one size"
        )
    return to_rgb(upright if upright.size == size else image, file)


def to_rgb(image: Image.Image, file: Path) -> Image.Image:
    """A decoded image as RGB, not turned; the file is named where that can't be."""
    try:
        return read_picture(image, upright=False)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def apply_palettes(masks: Sequence[Mask], files: Sequence[Path], allowed: set[int] | None) -> Sequence[Mask]:
    """The masks with the numbers that their palettes say, where they do.

    A palette of greys says the numbers itself: programs that pack images put them in any order. A palette in colour, or
    of greys that masks may not hold, is for the eye, and the indices are the numbers, if all masks agree on it.
    """

    def are_numbers(colours: dict[int, Colour]) -> bool:
        greys = {red for red, green, blue in colours.values() if red == green == blue}
        return len(greys) == len(colours) and (allowed is None or greys <= allowed)

    def apply_greys(mask: Mask) -> Mask:
        grey = np.zeros(256, np.int32)
        grey[list(mask.colours)] = [red for red, _, _ in mask.colours.values()]
        return Mask(grey[mask.values], grey[mask.numbers].tolist(), {})

    if all(are_numbers(mask.colours) for mask in masks):
        return [apply_greys(mask) if mask.colours else mask for mask in masks]
    seen: dict[int, tuple[Colour, Path]] = {}
    for mask, file in zip(masks, files, strict=True):
        for index, colour in mask.colours.items():
            known, first = seen.setdefault(index, (colour, file))
            if known != colour:
                raise InputError(
                    f"the number {index} is {colour} in the palette of {file} and {known} in that of {first.name}: "
                    "save all masks with one palette, or in grey"
                )
    return masks


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
            remedy = "resize the images" if channels else "choose a size, or resize the images"
            raise InputError(f"{item[0]} is {image.width}×{image.height} and not {side}×{side}: {remedy}")
        pixels = np.array(resize_picture(to_rgb(turn_upright(image), item[0]), side))
        return pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels

    images = decode_all(decode, [item for items in listed.values() for item in items])
    most = max(image.shape[2] for image in images)
    if channels and most > channels:
        raise InputError("images in colour are in the folders of a grey set: replace them")
    whole = np.stack([np.broadcast_to(image, (side, side, channels or most)) for image in images])
    parts = torch.from_numpy(whole).permute(0, 3, 1, 2).split([len(items) for items in listed.values()])
    tensors = {f"{split}.image": part for split, part in zip(listed, parts, strict=True)}
    labels = {split: [number for _, number in items] for split, items in listed.items()}
    return tensors | {f"{split}.label": torch.tensor(part, dtype=torch.uint8) for split, part in labels.items()}
