"""A folder of one's own: its layouts, the numbers in masks, classes and their names, and folders that don't do."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import listing, refused
from PIL import Image

from s18_utils.data.batches import StoreData
from s18_utils.data.dataset import open_data
from s18_utils.errors import InputError


@pytest.fixture
def own(tmp_path) -> Path:
    folder = tmp_path / "my cats"
    folder.mkdir()
    return folder


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def grid(number: int, values: list[int], size: int = 24) -> np.ndarray:
    """The mask of an image of that number: stripes of the values, begun with another one each time."""
    stripes = np.array(values, np.uint8)[(np.arange(size) // 4 + number) % len(values)]
    return np.tile(stripes, (size, 1))


def save_pairs(folder: Path, values: list[int], count: int = 20, size: int = 24) -> None:
    """Images whose red says their number, and masks of the values."""
    for number in range(count):
        image = np.zeros((size, size, 3), np.uint8)
        image[..., 0] = number * 10
        save(folder / "images" / f"cat{number}.png", image)
        save(folder / "masks" / f"cat{number}.png", grid(number, values, size))


def numbers(rows: dict) -> list[int]:
    """Which of `save_pairs`'s images are in a split."""
    return [int(image[0, 0, 0]) // 10 for image in rows["image"]]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0, 255], ("0", "255")),
        ([1, 2, 3], ("pet", "background", "border")),
        ([0, 1, 2, 7], ("0", "1", "2", "7")),
        ([1, 2], ("1", "2")),
    ],
)
def test_images_with_masks(own, values, names):
    save_pairs(own, values)
    data = open_data(str(own), 24)
    assert (data.name, data.title, data.source, data.official) == ("folder", "my cats", "local", None)
    assert (data.classes, data.truth, data.channels, data.size) == (names, "mask", 3, 24)
    assert (len(data.train["image"]), len(data.test["image"])) == (18, 2)
    assert sorted(numbers(data.train) + numbers(data.test)) == list(range(20))
    for rows in (data.train, data.test):
        for number, mask in zip(numbers(rows), rows["mask"], strict=True):
            assert torch.equal(mask, torch.from_numpy(grid(number, list(range(len(values))))))
    again = open_data(own, 24)
    assert (again.fingerprint, numbers(again.test)) == (data.fingerprint, numbers(data.test))
    assert StoreData(data, 4).describe().startswith("my cats from local: 16 training, 2 validation and 2 test images")


def test_masks_with_a_palette(own):
    save_pairs(own, [0, 1, 2])
    for file in (own / "masks").iterdir():
        picture = Image.fromarray(np.asarray(Image.open(file)), "P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        picture.save(file)
    assert open_data(str(own), 24).classes == ("0", "1", "2")


def test_programs_that_pack_black_and_white_in_any_order_exchange_nothing(own):
    save_pairs(own, [0, 255])
    for number, file in enumerate(sorted((own / "masks").iterdir())):
        white = np.asarray(Image.open(file)) > 0
        picture = Image.fromarray((white if number % 2 else ~white).astype(np.uint8), "P")
        picture.putpalette([0] * 3 + [255] * 3 if number % 2 else [255] * 3 + [0] * 3)
        picture.save(file)
    data = open_data(str(own), 24)
    assert data.classes == ("0", "255")
    for number, mask in zip(numbers(data.train), data.train["mask"], strict=True):
        assert torch.equal(mask, torch.from_numpy(grid(number, [0, 1])))


@pytest.mark.parametrize(
    ("values", "lines", "names", "held"),
    [
        ([0, 255], "background\n\ncat \n", ("background", "cat"), [0, 1]),
        ([1, 2, 3], "cat\nsofa\nedge\n", ("cat", "sofa", "edge"), [0, 1, 2]),
        ([0, 2], "sofa\ncat\nedge\n", ("sofa", "cat", "edge"), [0, 2]),  # a number is a line
        ([0, 1], "\ufeffHintergrund\nKätzchen\n", ("Hintergrund", "Kätzchen"), [0, 1]),
    ],
)
def test_classes_are_named_by_a_list(own, values, lines, names, held):
    save_pairs(own, values)
    (own / "classes.txt").write_text(lines, encoding="utf-8")
    data = open_data(str(own), 24)
    assert data.classes == names
    assert data.train["mask"].unique().tolist() == held


def save_classes(folder: Path, counts: dict[str, int], size: tuple[int, int] = (20, 20), mode: str = "RGB") -> None:
    """A folder of images per class, each as bright as its number in it."""
    for name, count in counts.items():
        for number in range(count):
            file = folder / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (number, number, 200)).convert(mode).save(file)


@pytest.mark.parametrize("layout", ["one folder", "train and test", "training and testing", "train alone"])
def test_a_folder_of_images_per_class(own, layout):
    counts, parts = {"dog": 20, "cat": 12, "emu": 2}, {"one folder": [""], "train alone": ["train"]}
    for number, part in enumerate(parts.get(layout, layout.split(" and "))):
        save_classes(own / part, {name: count if not number else 2 for name, count in counts.items()})
    (own / "notes.txt").write_text("no image")
    for part in ("", "train", "test"):  # Jupyter leaves such folders wherever a file was opened
        if (own / part).is_dir():
            save_classes(own / part, {".ipynb_checkpoints": 1})
    data = open_data(str(own), 20)
    assert (data.classes, data.truth, data.channels) == (("cat", "dog", "emu"), "label", 3)
    whole = " and " in layout
    assert data.train["label"].bincount().tolist() == ([12, 20, 2] if whole else [11, 18, 1])
    assert data.test["label"].bincount().tolist() == ([2, 2, 2] if whole else [1, 2, 1])  # of each class at least one
    if not whole:
        seen = {(int(label), int(image[0, 0, 0])) for part in (data.train, data.test) for label, image in rows(part)}
        assert len(seen) == 34


def test_a_class_may_be_called_train(own):
    save_classes(own, {"bus": 3, "train": 3})
    assert open_data(str(own), 16).classes == ("bus", "train")


def rows(part: dict) -> zip:
    return zip(part["label"], part["image"], strict=True)


def test_folders_named_by_numbers_are_in_their_order(own):
    save_classes(own, {str(number): 2 for number in (10, 9, 2, 1)})
    assert open_data(str(own), 16).classes == ("1", "2", "9", "10")


def test_grey_images_stay_grey(own):
    save_classes(own, {"a": 3, "b": 3}, mode="L")
    assert open_data(str(own), 20).channels == 1
    save_classes(own / "train", {"a": 3, "b": 3}, mode="L")
    save_classes(own / "test", {"a": 3}, mode="RGB")  # one in colour, and all are
    data = open_data(str(own), 20)
    assert data.channels == 3
    assert (data.train["image"][:, 0] == data.train["image"][:, 2]).all()


def test_the_size_may_be_left_out_for_squares_of_one_size(own):
    save_classes(own, {"a": 4, "b": 4})
    assert open_data(str(own)).size == 20
    save_classes(own, {"b": 4}, size=(30, 20))
    with refused("0.png is 30×20 and not 20×20", "choose a size"):
        open_data(str(own))
    assert open_data(str(own), 16).size == 16


def save_idx(folder: Path, classes: int = 3, size: int = 28) -> None:
    for part, count in (("train", 12), ("t10k", 6)):
        for kind, array in (
            ("images-idx3", np.full((count, size, size), 7)),
            ("labels-idx1", np.arange(count) % classes),
        ):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("inside", ["", "FashionMNIST/raw"])
def test_files_in_mnists_format(own, inside):
    save_idx(own / inside)
    data = open_data(str(own / inside))
    assert (data.classes, data.channels, data.size) == (("0", "1", "2"), 1, 28)
    assert (data.train["label"].tolist(), len(data.test["label"])) == ([0, 1, 2] * 4, 6)
    (own / inside / "classes.txt").write_text("T-shirt\nTrouser\nBag")
    assert open_data(str(own / inside)).classes == ("T-shirt", "Trouser", "Bag")
    with pytest.raises(InputError, match="are 28 pixels wide, not 32: leave the size out"):
        open_data(str(own / inside), 32)


def test_more_than_ten_classes_in_mnists_format(own):
    save_idx(own, classes=12)
    assert open_data(str(own)).classes == tuple(str(number) for number in range(12))


def test_what_changes_in_the_folder_is_noticed(own):
    save_pairs(own, [0, 255])
    first = open_data(str(own), 24)
    save(own / "masks" / "cat3.png", np.full((24, 24), 255, np.uint8))
    assert open_data(str(own), 24).fingerprint != first.fingerprint
    (own / "classes.txt").write_text("sofa\ncat")
    assert open_data(str(own), 24).classes == ("sofa", "cat")


def test_folders_of_one_name_do_not_share_a_store(tmp_path):
    for parent, values in (("a", [0, 255]), ("b", [0, 1, 2])):
        save_pairs(tmp_path / parent / "pets", values)
    first = open_data(str(tmp_path / "a" / "pets"), 24)
    assert len(open_data(str(tmp_path / "b" / "pets"), 24).classes) == 3
    assert open_data(str(tmp_path / "a" / "pets"), 24).fingerprint == first.fingerprint


def test_a_home_folder_is_written_with_a_tilde(own, monkeypatch):
    save_pairs(own, [0, 255])
    monkeypatch.setenv("HOME", str(own.parent))
    assert open_data("~/my cats", 24).title == "my cats"


def pairs(change):
    def make(folder: Path) -> None:
        save_pairs(folder, [0, 255], count=4)
        change(folder)

    return make


def many_values(folder: Path) -> None:
    save_pairs(folder, [0, 1], count=4)
    for number, file in enumerate((folder / "masks").iterdir()):
        Image.fromarray((np.arange(576).reshape(24, 24) + 600 * number).astype(np.uint16)).save(file)


def many_folders(folder: Path) -> None:
    for number in range(300):
        save(folder / f"class{number}" / "1.png", np.zeros((4, 4), np.uint8))


def two_of_one_name(folder: Path) -> None:
    save(folder / "images" / "cat0.bmp", np.zeros((24, 24), np.uint8))


FAULTS = {
    "fewer masks": (
        pairs(lambda own: (own / "masks/cat1.png").unlink()),
        ("4 images and 3 masks", "each image one mask"),
    ),
    "two images of one name": (pairs(two_of_one_name), ("5 images and 4 masks", "each image one mask")),
    "another name": (
        pairs(lambda own: (own / "masks/cat1.png").rename(own / "masks/dog1.png")),
        ("cat1.png has no mask of its name", "add cat1.png"),
    ),
    "no images": (pairs(lambda own: [file.unlink() for file in (own / "images").iterdir()]), ("holds no images",)),
    "one class of pixels": (lambda own: save_pairs(own, [255]), ("my cats holds one class only, 255",)),
    "thousands of values": (many_values, ("2304 different numbers, and 254 classes are possible", "as PNG")),
    "an image of text": (pairs(lambda own: (own / "images/cat0.png").write_text("cat")), ("can't decode", "cat0.png")),
    "hundreds of names": (
        pairs(lambda own: (own / "classes.txt").write_text("\n".join(map(str, range(300))))),
        ("300 classes, and 254 classes are possible",),
    ),
    "masks as JPEG": (
        pairs(
            lambda own: save(own / "masks/cat1.jpg", np.zeros((24, 24), np.uint8)) or (own / "masks/cat1.png").unlink()
        ),
        ("cat1.jpg holds numbers that compression made up", "save masks as PNG"),
    ),
    "too few names": (pairs(lambda own: (own / "classes.txt").write_text("cat")), ("holds 1 names for 2 classes",)),
    "a name twice": (pairs(lambda own: (own / "classes.txt").write_text("a\na")), ("holds a name twice",)),
    "names alike": (
        pairs(lambda own: (own / "classes.txt").write_text("sea lion\nsea_lion")),
        ("'sea lion' and 'sea_lion'", "look alike in tables", "rename one"),
    ),
    "a name that is mathematics": (
        pairs(lambda own: (own / "classes.txt").write_text("$a$\nb")),
        ("the class '$a$' in", "can't be written into figures", "without dollars"),
    ),
    "names in bytes": (pairs(lambda own: (own / "classes.txt").write_bytes(b"\xff\xfe\x00")), ("can't read", "UTF-8")),
    "nothing": (lambda own: None, ("holds no images in a known layout", "lay it out as images/ and masks/, a folder")),
    "only text": (lambda own: (own / "readme.txt").write_text("cats"), ("holds no images in a known layout",)),
    "images without masks": (lambda own: save_classes(own, {"images": 3}), ("holds one class only, images",)),
    "one folder of a class": (lambda own: save_classes(own, {"cat": 3}), ("holds one class only, cat", "another")),
    "hundreds of classes": (many_folders, ("300 classes, and 256 are possible", "merge some")),
    "a class for testing alone": (
        lambda own: save_classes(own / "train", {"a": 3, "b": 3}) or save_classes(own / "test", {"c": 1}),
        ("holds c, of which there are no training images",),
    ),
    "no images for testing": (
        lambda own: save_classes(own / "train", {"a": 3, "b": 3}) or (own / "test").mkdir(),
        ("there are no test images", "put some there"),
    ),
    "four files with labels for images": (
        lambda own: save_idx(own) or shutil.copy(own / "train-labels-idx1-ubyte", own / "train-images-idx3-ubyte"),
        ("train-images-idx3-ubyte has the shape (12,)", "save images as"),
    ),
    "one file of four": (
        lambda own: save_idx(own) or (own / "t10k-labels-idx1-ubyte").unlink(),
        ("t10k-labels-idx1-ubyte is missing", "put it there"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_does_not_do_is_refused_in_one_sentence(own, data_folder, fault):
    make, parts = FAULTS[fault]
    make(own)
    before = listing(own)
    with refused(*parts):
        open_data(str(own), 24 if "four" not in fault else None)
    assert listing(own) == before
    assert not list(data_folder.rglob("*.safetensors"))


def test_a_name_that_is_neither_a_set_nor_a_folder(tmp_path):
    for name in ("cats", str(tmp_path / "nowhere")):
        with refused(f"unknown data set {name!r}", "pets, mnist, cifar10, or the path of"):
            open_data(name, 32)
    with pytest.raises(InputError, match="at least 16 pixels wide, not 15: choose a larger size"):
        open_data(str(tmp_path), 15)


def test_masks_need_a_size(own):
    save_pairs(own, [0, 255])
    with pytest.raises(InputError, match="say how many pixels wide they should be"):
        open_data(str(own))
