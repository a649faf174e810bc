"""A folder of one's own as a data set: images with masks, a folder of images per class, or files in MNIST's format.

- `images/` and `masks/`: a mask for each image, of the same name but for the suffix, and of the same size. A mask holds
  a number a class: 0 and 255, 1 to 3, any others, or indices into a palette.
- a folder of images for each class, or such folders in `train/` and `test/`.
- `train-images-idx3-ubyte` and so on, as Fashion-MNIST has them.

Classes are named by their folders; else by `classes.txt`, one name a line; else by their numbers. Where there is no
test split, a fixed random tenth becomes it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s18_utils.data import files as image_files
from s18_utils.data import labelled
from s18_utils.data.batches import SPLIT_SEED
from s18_utils.data.sources import list_folders
from s18_utils.data.store import Tensors
from s18_utils.errors import InputError

TEST_SHARE = 0.1
MOST_CLASSES = 256  # labels are stored as bytes
MOST_IN_MASKS = 254  # masks too, and where they are drawn their outlines take two more numbers
TRIMAP = {1: "pet", 2: "background", 3: "border"}
LAYOUTS = "images/ and masks/, a folder of images per class, or files in MNIST's format"


def list_files(folder: Path) -> list[Path]:
    """All files that `read` reads."""
    names = [file for file in (folder / "classes.txt",) if file.is_file()]
    if (folder / "masks").is_dir():
        return names + [file for pair in list_pairs(folder) for file in pair]
    if root := labelled.find_idx(folder):
        return names + labelled.list_idx(root)
    return [file for items in list_classes(folder)[0].values() for file, _ in items]


def read(folder: Path, size: int | None) -> Tensors:
    """Both splits, and the names of the classes as `classes`, the bytes of a JSON list.

    Args:
        folder: laid out in one of the three ways.
        size: side of the images in pixels; None for what comes in squares of one size.

    Raises:
        InputError: it is laid out otherwise, a file is missing or can't be read, or there are too few or many classes.
    """
    if (folder / "masks").is_dir():
        tensors, classes = read_masks(folder, size)
    elif root := labelled.find_idx(folder):
        tensors = labelled.read_idx(root, None, MOST_CLASSES)
        if size not in (None, own := tensors["train.image"].shape[-1]):
            raise InputError(f"the images in {folder} are {own} pixels wide, not {size}: leave the size out")
        last = max(tensors[f"{split}.label"].max().item() for split in labelled.SPLITS)
        classes = name_classes(folder, range(last + 1))
    else:
        listed, classes = list_classes(folder)
        tensors = image_files.read_labelled(listed, size)
        if "test" not in listed:
            tensors = split_tensors(tensors["train.image"], "label", tensors["train.label"], tensors["train.label"])
    if len(classes) < 2:
        raise InputError(f"{folder} holds one class only, {classes[0]}: add images of another")
    alike = {name.replace("_", " "): name for name in classes}
    if twin := next((name for name in classes if alike[name.replace("_", " ")] != name), None):
        other = alike[twin.replace("_", " ")]
        raise InputError(f"the classes {twin!r} and {other!r} in {folder} look alike in tables: rename one")
    if dollar := next((name for name in classes if "$" in name), None):  # two of them enclose mathematics
        raise InputError(f"the class {dollar!r} in {folder} can't be written into figures: name it without dollars")
    return tensors | {"classes": torch.tensor(list(json.dumps(classes).encode()), dtype=torch.uint8)}


def decode_names(classes: Tensor) -> tuple[str, ...]:
    """The names of the classes from what `read` made of them."""
    return tuple(json.loads(bytes(classes.tolist())))


def list_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Every image in `images` with the mask of its name in `masks`."""
    images, masks = (image_files.list_images(folder / name) for name in ("images", "masks"))
    if not images:
        raise InputError(f"{folder / 'images'} holds no images: put some there, and their masks into masks")
    if lossy := next((mask for mask in masks if mask.suffix.lower() in (".jpg", ".jpeg")), None):
        raise InputError(f"{lossy} holds numbers that compression made up: save masks as PNG")
    by_name = {mask.stem: mask for mask in masks}
    if len(images) != len(masks) or len({image.stem for image in images}) != len(by_name):
        raise InputError(f"{folder} holds {len(images)} images and {len(masks)} masks: give each image one mask")
    for image in images:
        if image.stem not in by_name:
            raise InputError(f"{image} has no mask of its name in {folder / 'masks'}: add {image.stem}.png there")
    return [(image, by_name[image.stem]) for image in images]


def read_masks(folder: Path, size: int | None) -> tuple[Tensors, list[str]]:
    """Both splits of images with masks; and the names of the classes, in the order of the numbers in the masks."""
    if size is None:
        raise InputError(f"the images in {folder} may be of many sizes: say how many pixels wide they should be")
    images, masks = image_files.read_pairs(list_pairs(folder), size)
    numbers = masks.unique().tolist()
    check_count(folder, len(numbers), "different numbers")
    classes = name_classes(folder, numbers)
    check_count(folder, len(classes), "classes")
    if len(classes) > len(numbers):  # some class occurs in no mask
        numbers = list(range(len(classes)))
    masks = torch.from_numpy(np.searchsorted(numbers, masks.numpy()).astype(np.uint8))
    return split_tensors(images, "mask", masks, torch.zeros(len(images))), classes


def check_count(folder: Path, count: int, what: str) -> None:
    """Raises an InputError if masks hold so many of something, of which there can't be more than of classes."""
    if count > MOST_IN_MASKS:
        raise InputError(
            f"the masks in {folder} hold {count} {what}, and {MOST_IN_MASKS} classes are possible: "
            "save one number a class, as PNG"
        )


def list_classes(folder: Path) -> tuple[image_files.Listed, list[str]]:
    """The images of `train`, and of `test` if it has a folder, with the numbers of their classes; and the classes."""
    splits = image_files.split_folders(folder)
    if "train" not in splits or ("test" not in splits and not list_folders(splits["train"])):  # a class, of railways
        splits = {"train": folder}
    classes = [path.name for path in list_folders(splits["train"]) if image_files.list_images(path)]
    if not classes:
        raise InputError(f"{folder} holds no images in a known layout: lay it out as {LAYOUTS}")
    if len(classes) > MOST_CLASSES:
        raise InputError(f"{folder} holds {len(classes)} classes, and {MOST_CLASSES} are possible: merge some")
    if all(name.isdecimal() for name in classes):
        classes.sort(key=int)
    if unknown := [path.name for path in list_folders(splits.get("test", "")) if path.name not in classes]:
        raise InputError(f"{splits['test']} holds {unknown[0]}, of which there are no training images: add some")
    return image_files.list_labelled(splits, classes), classes


def split_tensors(images: Tensor, truth: str, values: Tensor, strata: Tensor) -> Tensors:
    """Images and their masks or labels as `train` and `test`: a fixed random tenth of each stratum.

    Args:
        images: (N, C, S, S).
        truth: `mask` or `label`.
        values: the masks or labels, of N rows.
        strata: (N,), what is to be shared out alike: the labels.
    """
    generator, held = torch.Generator().manual_seed(SPLIT_SEED), torch.zeros(len(images), dtype=torch.bool)
    for stratum in strata.unique():
        rows = (strata == stratum).nonzero()[:, 0]
        count = max(round(TEST_SHARE * len(rows)), int(len(rows) > 1))
        held[rows[torch.randperm(len(rows), generator=generator)[:count]]] = True
    parts = {"train": ~held, "test": held}
    return {
        f"{split}.{name}": rows[part]
        for split, part in parts.items()
        for name, rows in (("image", images), (truth, values))
    }


def name_classes(folder: Path, numbers: Sequence[int]) -> list[str]:
    """The names in `classes.txt`; where there is none the numbers, or a trimap's names where they are 1 to 3.

    As many names as numbers name these in their order; of more names, each names the number of its line, from 0.
    """
    file = folder / "classes.txt"
    if not file.is_file():
        return list(TRIMAP.values()) if list(numbers) == list(TRIMAP) else [str(number) for number in numbers]
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't read {file} ({error}): save it as UTF-8 text, one name a line") from error
    if len(set(names)) < len(names):
        raise InputError(f"{file} holds a name twice: name each class differently")
    if len(names) < len(numbers) or (len(names) > len(numbers) and not 0 <= numbers[0] <= numbers[-1] < len(names)):
        raise InputError(f"{file} holds {len(names)} names for {len(numbers)} classes: write one name a line")
    return names
