"""Reading MNIST: its four files byte by byte, where they may lie, and files that are not what they should be."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets.mnist
from PIL import Image
from test_labelled import assert_refused

from s18_utils.data import dataset, labelled, mnist, sources
from s18_utils.data.dataset import open_data
from s18_utils.errors import InputError

FILES = {"train": labelled.IDX_NAMES[:2], "test": labelled.IDX_NAMES[2:]}


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in MNIST's format: two zeros, type 8, number of dimensions, each of them, the data."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def random_digits(train: int = 6, test: int = 3) -> dict[str, np.ndarray]:
    """Noise by name of file."""
    random, arrays = np.random.default_rng(0), {}
    for split, count in (("train", train), ("test", test)):
        images, labels = FILES[split]
        arrays[images] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[labels] = (np.arange(count, dtype=np.uint8) * 3 + 5) % 10
    return arrays


def write(raw: Path) -> None:
    raw.mkdir(parents=True)
    for name, array in random_digits().items():
        (raw / name).write_bytes(idx(array))


@pytest.fixture
def raw(data_folder) -> Path:
    """A small set in torchvision's layout in a data directory of this test's own."""
    write(data_folder / "MNIST" / "raw")
    return data_folder / "MNIST" / "raw"


def test_every_byte_arrives_where_it_belongs(raw):
    data = open_data("mnist")
    assert data.source == "local"
    for rows, split in ((data.train, "train"), (data.test, "test")):
        images, labels = (random_digits()[name] for name in FILES[split])
        assert rows["image"].dtype == rows["label"].dtype == torch.uint8
        assert rows["image"].shape == (len(images), 1, 28, 28)
        assert np.array_equal(rows["image"][:, 0].numpy(), images)
        assert rows["label"].tolist() == labels.tolist()
    assert data.train["label"].tolist() == [5, 8, 1, 4, 7, 0]


# As MNIST has them, with a dot, packed, each in a folder of its name, a dot and a folder.
SPELLINGS = ("{}", "{dotted}", "{}.gz", "{}/{}", "{dotted}/{dotted}")


@pytest.mark.parametrize(
    ("inside", "spelling"),
    [
        *((inside, "{}") for inside in ("raw", "", "datasets/owner/mnist-dataset", "archive/mnist")),
        *(("MNIST/raw", spelling) for spelling in SPELLINGS),
    ],
)
def test_the_four_files_are_found_however_they_are_called(kaggle, inside, spelling):
    for name, array in random_digits().items():
        spelt = spelling.format(name, name, dotted=name.replace("-idx", ".idx"))
        file = kaggle / "an-input" / inside / spelt
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(idx(array)) if spelt.endswith(".gz") else idx(array))
    data = open_data("mnist")
    assert (data.source, data.official, data.title) == ("kaggle", 60_000, "MNIST")
    assert np.array_equal(data.train["image"][:, 0].numpy(), random_digits()["train-images-idx3-ubyte"])
    assert data.test["label"].tolist() == [5, 8, 1]


@pytest.mark.parametrize("header", [True, False])
def test_rows_of_a_label_and_784_pixels_are_read(kaggle, header):
    columns = ",".join(["label"] + [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)])
    for split, (images, labels) in FILES.items():
        rows = np.column_stack([random_digits()[labels], random_digits()[images].reshape(-1, 784)])
        lines = ([columns] if header else []) + [",".join(map(str, row)) for row in rows]
        (kaggle / "mnist-in-csv").mkdir(exist_ok=True)
        (kaggle / "mnist-in-csv" / f"mnist_{split}.csv").write_text("\n".join(lines))
    data = open_data("mnist")
    assert np.array_equal(data.train["image"][:, 0].numpy(), random_digits()["train-images-idx3-ubyte"])
    assert (data.train["label"].tolist(), data.test["label"].tolist()) == ([5, 8, 1, 4, 7, 0], [5, 8, 1])
    for content in ("label,a\n1,2", "1,2,3", lines[-1].replace(lines[-1].split(",")[5], "999")):
        (kaggle / "mnist-in-csv" / "mnist_train.csv").write_text(content)
        with pytest.raises(InputError, match="its rows are not a label and 784 pixels, 0 to 255: replace it"):
            open_data("mnist")


@pytest.mark.parametrize("path", ["mnist-png/mnist_png", "mnistpng/mnist_png/mnist_png", "mnist"])
def test_a_folder_of_pngs_per_digit_is_read(kaggle, path):
    save_digits(kaggle / path / "training", 3)
    save_digits(kaggle / path / "testing", 1)
    data = open_data("mnist")
    assert data.train["image"].shape == (30, 1, 28, 28)
    assert data.train["label"].tolist() == [digit for digit in range(10) for _ in range(3)]
    assert (data.train["image"].flatten(1)[:, 0] == data.train["label"]).all()
    assert len(data.test["image"]) == 10
    Image.new("L", (20, 20)).save(kaggle / path / "testing" / "3" / "0.png")
    with pytest.raises(InputError, match="0.png is 20×20 and not 28×28"):
        open_data("mnist")
    Image.new("RGB", (28, 28), (200, 10, 10)).save(kaggle / path / "testing" / "3" / "0.png")
    with pytest.raises(InputError, match="in colour are in the folders of a grey set"):
        open_data("mnist")


def save_digits(folder: Path, count: int) -> None:
    """So many images of each digit, as bright as its number."""
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (28, 28), digit).save(folder / str(digit) / f"{number}.png")


@pytest.mark.parametrize("other", ["FashionMNIST/raw", "KMNIST/raw", "fashionmnist", "datasets/zalando/fashion-mnist"])
def test_other_sets_with_files_of_the_same_names_are_left_alone(kaggle, other, capsys):
    write(kaggle / other)
    save_digits(kaggle / "svhn" / "train", 1)
    save_digits(kaggle / "svhn" / "test", 1)
    assert sources.locate_data(mnist).source == "synthetic"
    assert "passed over under" in (said := capsys.readouterr().out)
    assert "svhn" in said
    write(kaggle / "later" / "MNIST" / "raw")
    assert sources.locate_data(mnist).root == kaggle / "later" / "MNIST" / "raw"


def change(name: str, edit):
    """Edits the bytes of a file."""
    return lambda raw: (raw / name).write_bytes(edit((raw / name).read_bytes()))


IMAGES, LABELS = FILES["train"]
UNREADABLE = ("can't read", "it is damaged or not in MNIST's format", "replace it")
FAULTS = {
    "missing labels": (lambda raw: (raw / LABELS).unlink(), (LABELS, "is missing", "put it there, or delete")),
    "only one file": (
        lambda raw: [(raw / name).unlink() for name in random_digits() if name != LABELS],
        (IMAGES, "is missing"),
    ),
    "a folder": (lambda raw: (raw / IMAGES).unlink() or (raw / IMAGES).mkdir(), (IMAGES, "is missing")),
    "half a header": (change(IMAGES, lambda content: content[:7]), (IMAGES, *UNREADABLE)),
    "too long": (change(LABELS, lambda content: content + b"\x01"), (LABELS, *UNREADABLE)),
    "half packed": (change(IMAGES, lambda content: gzip.compress(content)[:-20]), (IMAGES, *UNREADABLE)),
    "other numbers": (change(LABELS, lambda content: bytes([0, 0, 9, 1]) + content[4:]), (LABELS, *UNREADABLE)),
    "another size": (change(IMAGES, lambda _: idx(np.zeros((6, 28, 27), np.uint8))), (IMAGES, "(6, 28, 27)")),
    "unequal counts": (change(LABELS, lambda _: idx(np.zeros(5, np.uint8))), ("6 images", LABELS, "5 labels")),
    "label 10": (change(LABELS, lambda content: content[:-1] + b"\x0a"), (LABELS, "the label 10", "0 to 9")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_files_is_named_and_nothing_is_left_behind(raw, data_folder, fault):
    make, parts = FAULTS[fault]
    make(raw)
    assert_refused(data_folder, "mnist", *parts)


@pytest.mark.parametrize("source", ["auto", "torchvision"])
def test_a_download_fills_torchvisions_layout(monkeypatch, data_folder, source):
    def deliver(url, download_root, filename, md5):
        assert url.endswith(filename)
        assert len(md5) == 32
        name = filename.removesuffix(".gz")
        (Path(download_root) / name).write_bytes(idx(random_digits()[name]))

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", deliver)
    monkeypatch.setattr(sources, "reachable", lambda url: True)
    data = open_data("mnist", source=source)
    assert data.source == "torchvision"
    assert data.train["label"].tolist() == [5, 8, 1, 4, 7, 0]
    assert sorted(path.name for path in data_folder.iterdir()) == ["MNIST", "s18-store"]
    assert torchvision.datasets.MNIST(data_folder, train=False).targets.tolist() == [5, 8, 1]
    assert open_data("mnist").source == "local"


def test_the_real_set_is_complete(real_data):
    real_data(mnist)
    data = open_data("mnist")
    assert data.source == "local"
    assert data.train["image"].shape == (60_000, 1, 28, 28)
    assert data.test["image"].shape == (10_000, 1, 28, 28)
    assert data.train["label"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test["label"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    known = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.train["label"].bincount().tolist() == known


def test_real_digits_are_white_on_black_and_belong_to_their_labels(real_data):
    real_data(mnist)
    data = open_data("mnist")
    images, labels = data.train["image"][:, 0].float() / 255, data.train["label"]
    assert images.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert images.std().item() == pytest.approx(0.3081, abs=1e-4)
    # The nearest mean image reads 82 % of the test digits; of images and labels out of step, 10 %.
    means = torch.stack([images[labels == digit].mean(dim=0) for digit in range(10)])
    tests = data.test["image"][:, 0].float() / 255
    guesses = torch.cdist(tests.flatten(1), means.flatten(1)).argmin(dim=1)
    assert (guesses == data.test["label"]).float().mean() > 0.8


def test_data_that_can_not_be_written_beside_have_their_store_in_the_cache(raw, monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(dataset.os, "access", lambda path, _: tmp_path / "cache" in (path, *path.parents))
    first = open_data("mnist")
    assert not (raw.parents[1] / "s18-store").exists()
    [store] = (tmp_path / "cache" / "s18" / "s18-store").iterdir()
    written = store.stat().st_mtime_ns
    assert open_data("mnist").fingerprint == first.fingerprint
    assert store.stat().st_mtime_ns == written  # not built again
