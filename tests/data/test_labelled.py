"""Labelled images as arrays: the `.npz` file in every shape it may have and every fault; what the sets share."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import listing, refused

from s18_utils.data import cifar10, labelled, mnist, synthetic
from s18_utils.data.dataset import open_data
from s18_utils.data.synthetic import DIGIT_CLASSES, OBJECT_CLASSES

CHANNELS_AND_SIZE = {"mnist": (1, 28), "cifar10": (3, 32)}
SETS = pytest.mark.parametrize("name", CHANNELS_AND_SIZE)


def random_arrays(channels: int, size: int, train: int = 5, test: int = 3) -> dict[str, np.ndarray]:
    """Noise as Keras saves it: images (N, S, S) or (N, S, S, C), labels (N,)."""
    random, arrays = np.random.default_rng(0), {}
    for split, count in (("train", train), ("test", test)):
        shape = (count, size, size) if channels == 1 else (count, size, size, channels)
        arrays[f"x_{split}"] = random.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"y_{split}"] = (np.arange(count) * 7 + 2) % 10
    return arrays


@pytest.fixture
def save(data_folder):
    """Saves a set as `<name>.npz` in the data directory, with changes; returns the file and what is in it."""

    def write(name: str, **changes) -> tuple[Path, dict[str, np.ndarray]]:
        arrays = random_arrays(*CHANNELS_AND_SIZE[name]) | changes
        file = data_folder / f"{name}.npz"
        np.savez(file, **{key: array for key, array in arrays.items() if array is not None})
        return file, arrays

    return write


def assert_refused(data_folder: Path, name: str, *parts: str) -> None:
    """`open_data` says in one sentence what is wrong, from whatever source, and leaves nothing behind."""
    (data_folder / "s18-store").mkdir(exist_ok=True)  # may be there, but stays empty
    before = listing(data_folder)
    for source in ("auto", "local"):  # above all, `auto` doesn't go on to something else
        with refused(*parts):
            open_data(name, None if name in CHANNELS_AND_SIZE else 16, source)
    assert listing(data_folder) == before


@SETS
def test_pixels_and_labels_arrive_where_they_belong(save, name):
    channels, size = CHANNELS_AND_SIZE[name]
    _, arrays = save(name)
    data = open_data(name, source="local")
    for rows, split, count in ((data.train, "train", 5), (data.test, "test", 3)):
        assert (rows["image"].dtype, rows["image"].shape) == (torch.uint8, (count, channels, size, size))
        assert (rows["label"].dtype, rows["label"].tolist()) == (torch.uint8, [2, 9, 6, 3, 0][:count])
        saved = arrays[f"x_{split}"].reshape(count, size, size, channels).transpose(0, 3, 1, 2)
        assert np.array_equal(rows["image"].numpy(), saved)
    assert (data.source, data.channels, data.size) == ("local", channels, size)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mnist", lambda x: x[..., None]),
        ("mnist", lambda x: x[:, None]),
        ("mnist", np.asfortranarray),
        ("cifar10", lambda x: x.transpose(0, 3, 1, 2)),
        ("cifar10", np.asfortranarray),
    ],
)
def test_images_may_come_in_other_shapes(save, name, change):
    plain = labelled.read_npz(save(name)[0], *CHANNELS_AND_SIZE[name])
    arrays = random_arrays(*CHANNELS_AND_SIZE[name])
    other, _ = save(name, x_train=change(arrays["x_train"]), x_test=change(arrays["x_test"]))
    tensors = labelled.read_npz(other, *CHANNELS_AND_SIZE[name])
    assert all(torch.equal(tensors[key], plain[key]) for key in plain)
    assert all(tensor.is_contiguous() for tensor in tensors.values())


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint32", "int64", "uint64", ">i4"])
def test_labels_may_be_any_integers_in_a_row_or_a_column(save, kind):
    for shape in ((-1,), (-1, 1)):
        labels = {key: random_arrays(1, 28)[key].astype(kind).reshape(shape) for key in ("y_train", "y_test")}
        tensors = labelled.read_npz(save("mnist", **labels)[0], 1, 28)
        assert (tensors["train.label"].tolist(), tensors["test.label"].tolist()) == ([2, 9, 6, 3, 0], [2, 9, 6])


class Bomb:
    """Unpickling it would fail the test."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


BOMBS = np.empty(5, dtype=object)
BOMBS[:] = [Bomb() for _ in range(5)]

FAULTS = {
    "no test images": ({"x_test": None}, ("has no x_test", "save x_train, y_train, x_test, y_test in it")),
    "floats": ({"x_train": np.zeros((5, 28, 28))}, ("x_train in", "of type float64", "save pixels as uint8, 0 to 255")),
    "labels as floats": ({"y_train": np.zeros(5)}, ("y_train in", "of type float64", "save labels as integers")),
    "labels as text": ({"y_test": np.array(["1", "2", "3"])}, ("y_test in", "of type <U1", "integers, 0 to 9")),
    "another size": ({"x_train": np.zeros((5, 32, 32), np.uint8)}, ("(5, 32, 32)", "save images as (N, 28, 28)")),
    "in colour": ({"x_test": np.zeros((3, 28, 28, 3), np.uint8)}, ("x_test in", "(3, 28, 28, 3)", "(N, 28, 28)")),
    "one image": ({"x_train": np.zeros((28, 28), np.uint8)}, ("x_train in", "(28, 28)", "(N, 28, 28)")),
    "one-hot labels": (
        {"y_train": np.eye(5, 10, dtype=int)},
        ("y_train in", "(5, 10)", "one number per image, as (N,)"),
    ),
    "empty": (
        {"x_test": np.zeros((0, 28, 28), np.uint8), "y_test": np.zeros(0, int)},
        ("x_test in", "holds no images", "replace the file"),
    ),
    "unequal counts": ({"y_train": np.zeros(4, int)}, ("holds 5 images", "4 labels", "save one label per image")),
    "label 10": ({"y_train": np.array([0, 1, 10, 3, 4])}, ("y_train in", "the label 10", "labels must be 0 to 9")),
    "label -1": ({"y_test": np.array([0, -1, 12])}, ("y_test in", "the label -1", "labels must be 0 to 9")),
    "pickled objects": ({"y_train": BOMBS}, ("can't read", "replace it")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_file_is_named_and_nothing_is_left_behind(save, data_folder, fault):
    changes, parts = FAULTS[fault]
    save("mnist", **changes)
    assert_refused(data_folder, "mnist", "mnist.npz", *parts)


def single_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 28, 28), np.uint8))
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04" + bytes(60), single_array()])
def test_something_else_under_its_name_is_named(data_folder, content):
    (data_folder / "mnist.npz").write_bytes(content)
    assert_refused(data_folder, "mnist", "can't read", "damaged or no .npz file", "replace it")


def test_an_archive_of_other_things_is_named(data_folder):
    with zipfile.ZipFile(data_folder / "mnist.npz", "w") as archive:
        for key in labelled.ARRAYS:
            archive.writestr(f"{key}.npy", "no array")
    assert_refused(data_folder, "mnist", "x_train in", "save pixels as uint8")


@pytest.mark.parametrize(("name", "title", "other"), [("mnist", "MNIST", 32), ("cifar10", "CIFAR-10", 28)])
def test_the_size_is_the_sets_own(save, data_folder, name, title, other):
    save(name)
    own = CHANNELS_AND_SIZE[name][1]
    assert open_data(name).fingerprint == open_data(name, own).fingerprint
    for size in (0, other, -own):
        with refused(f"{title} are {own} pixels wide, not {size}", "leave the size out"):
            open_data(name, size)
    assert [file.name for file in (data_folder / "s18-store").iterdir()] == [f"{name}-real-{own}.safetensors"]


@pytest.mark.parametrize(
    ("reader", "drawing", "classes"), [(mnist, "digits", DIGIT_CLASSES), (cifar10, "objects", OBJECT_CLASSES)]
)
def test_drawn_images_stand_in_until_they_are_drawn_otherwise(data_folder, monkeypatch, reader, drawing, classes):
    assert reader.SYNTHETIC["test"] == 500
    monkeypatch.setattr(reader, "SYNTHETIC", {"train": 30, "test": 20})
    drawn, draw = [], getattr(synthetic, drawing)
    monkeypatch.setattr(synthetic, drawing, lambda *arguments: drawn.append(arguments) or draw(*arguments))
    name = reader.__name__.rpartition(".")[2]
    for _ in range(2):
        data = open_data(name)
        assert (data.source, data.synthetic, data.official, data.classes) == ("synthetic", True, None, classes)
        for rows, seed, count in ((data.train, 0, 30), (data.test, 1, 20)):
            images, labels = draw(count, seed)
            assert torch.equal(rows["image"], images)
            assert (rows["label"].dtype, rows["label"].tolist()) == (torch.uint8, labels.tolist())
    assert drawn == [(30, 0), (20, 1)]
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    open_data(name)
    assert len(drawn) == 4
