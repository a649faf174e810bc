"""Reading CIFAR-10: torchvision's batches, the mirror and its checks, and what happens when either fails."""

import hashlib
import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from conftest import listing, refused
from PIL import Image
from test_labelled import assert_refused
from torchvision.datasets import CIFAR10

from s18_utils.data import cifar10, sources
from s18_utils.data.dataset import open_data

PER_BATCH = 3  # images


def random_objects(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, uint8 (N, 32, 32, 3), and labels (N,)."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, (np.arange(count) * 3 + seed) % 10


def assert_holds(rows: dict, images: np.ndarray, labels: np.ndarray) -> None:
    """Every pixel and label of a split is where it belongs."""
    assert rows["image"].dtype == rows["label"].dtype == torch.uint8
    assert rows["image"].shape == (len(images), 3, 32, 32)
    assert np.array_equal(rows["image"].permute(0, 2, 3, 1).numpy(), images)
    assert rows["label"].tolist() == labels.tolist()


@pytest.fixture
def write_batches(monkeypatch):
    """Writes a small set in torchvision's layout, and has torchvision expect its checksums."""

    def write(root: Path) -> Path:
        root.mkdir(parents=True)
        for place, names in (("train_list", [name for name, _ in CIFAR10.train_list]), ("test_list", ["test_batch"])):
            images, labels = random_objects(PER_BATCH * len(names), seed=len(names))
            sums = []
            for number, name in enumerate(names):
                part = slice(number * PER_BATCH, (number + 1) * PER_BATCH)
                rows = images[part].transpose(0, 3, 1, 2).reshape(PER_BATCH, 3072)  # a row: red, green, blue
                content = pickle.dumps({"data": rows, "labels": labels[part].tolist()})
                (root / name).write_bytes(content)
                sums.append([name, hashlib.md5(content).hexdigest()])
            monkeypatch.setattr(CIFAR10, place, sums)
        content = pickle.dumps({"label_names": list(cifar10.CLASSES)})
        (root / "batches.meta").write_bytes(content)
        meta = {"filename": "batches.meta", "key": "label_names", "md5": hashlib.md5(content).hexdigest()}
        monkeypatch.setattr(CIFAR10, "meta", meta)
        return root

    return write


@pytest.fixture
def batches(write_batches, data_folder) -> Path:
    """A small set in a data directory of this test's own."""
    return write_batches(data_folder / "cifar-10-batches-py")


def test_every_pixel_of_the_batches_arrives_where_it_belongs(batches):
    data = open_data("cifar10")
    assert data.source == "local"
    assert_holds(data.train, *random_objects(15, seed=5))
    assert_holds(data.test, *random_objects(3, seed=1))
    assert data.train["label"].tolist() == [5, 8, 1, 4, 7, 0, 3, 6, 9, 2, 5, 8, 1, 4, 7]


class Bomb:
    """Unpickling it would fail the test."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


FAULTS = {
    "another pickle": (
        lambda root: (root / "data_batch_5").write_bytes(pickle.dumps(Bomb())),
        ("are damaged", "unpack cifar-10-python.tar.gz again", "delete"),
    ),
    "missing batch": (
        lambda root: (root / "data_batch_2").unlink(),
        ("data_batch_2 is missing", "put it there", "delete"),
    ),
    "only one file": (
        lambda root: [file.unlink() for file in root.iterdir() if file.name != "test_batch"],
        ("data_batch_1 is missing", "downloaded"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_batches_is_named_and_nothing_is_left_behind(batches, data_folder, fault):
    make, parts = FAULTS[fault]
    make(batches)
    assert_refused(data_folder, "cifar10", *parts)


def write_parquet(file: Path, images: np.ndarray, labels: np.ndarray, mode: str = "RGB") -> None:
    """As the mirror has it, in row groups of two."""
    rows = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).convert(mode).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"img": pyarrow.array(rows, kind), "label": pyarrow.array(labels, pyarrow.int64())})
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, file, row_group_size=2)


@pytest.fixture
def mirror(monkeypatch, tmp_path) -> Path:
    """What the mirror has, a small set whose labels are the expected ones; nothing else can be reached."""
    folder = tmp_path / "mirror" / "plain_text"
    for split, seed, count in (("train", 7, 6), ("test", 8, 4)):
        images, labels = random_objects(count, seed)
        write_parquet(folder / cifar10.MIRROR_FILES[split], images, labels)
        monkeypatch.setitem(cifar10.LABELS_SHA256, split, hashlib.sha256(labels.astype(np.uint8)).hexdigest())

    def fetch(repository, name, *, repo_type, revision, local_dir):
        assert (repository, repo_type) == ("uoft-cs/cifar10", "dataset")
        assert revision == "0b2714987fa478483af9968de7c934580d0bb9a2"
        (Path(local_dir) / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder.parent / name, Path(local_dir) / name)

    monkeypatch.setattr(cifar10, "hf_hub_download", fetch)
    monkeypatch.setattr(sources, "reachable", lambda url: url == cifar10.DOWNLOADS["huggingface"].url)
    return folder


@pytest.fixture
def home(monkeypatch, write_batches) -> list:
    """Has torchvision's home server answer too, with another small set; returns the folders downloaded into."""
    downloads = []

    def download(self):
        downloads.append(Path(self.root))
        write_batches(Path(self.root) / "cifar-10-batches-py")
        (Path(self.root) / "cifar-10-python.tar.gz").write_bytes(b"packed")

    monkeypatch.setattr(CIFAR10, "download", download)
    monkeypatch.setattr(sources, "reachable", lambda url: True)
    return downloads


@pytest.mark.parametrize("source", ["auto", "huggingface"])
def test_the_mirror_serves(mirror, data_folder, source):
    data = open_data("cifar10", source=source)
    assert data.source == "huggingface"
    assert_holds(data.train, *random_objects(6, seed=7))
    assert_holds(data.test, *random_objects(4, seed=8))
    assert sorted(file.name for file in data_folder.iterdir()) == ["cifar-10-parquet", "s18-store"]
    for source in ("auto", "huggingface"):  # nobody knows any more how it came there
        again = open_data("cifar10", source=source)
        assert (again.source, again.fingerprint) == ("local", data.fingerprint)


def swap_labels(folder: Path) -> None:
    """The mirror's test split in another order."""
    images, labels = random_objects(4, seed=8)
    write_parquet(folder / cifar10.MIRROR_FILES["test"], images[::-1], labels[::-1])


def change_file(split: str, edit):
    def change(folder: Path) -> None:
        file = folder / cifar10.MIRROR_FILES[split]
        file.write_bytes(edit(file.read_bytes()))

    return change


def larger_images(folder: Path) -> None:
    write_parquet(folder / cifar10.MIRROR_FILES["train"], np.zeros((6, 33, 32, 3), np.uint8), random_objects(6, 7)[1])


TROUBLES = {
    "another order": (swap_labels, "test-00000-of-00001.parquet does not hold the official labels in their order"),
    "cut short": (change_file("test", lambda content: content[:-1]), "test-00000-of-00001.parquet, it is damaged"),
    "a flipped bit in a PNG": (
        change_file("train", lambda content: content.replace(b"IDAT", b"IDAU", 1)),
        "train-00000-of-00001.parquet, it is damaged",
    ),
    "larger images": (larger_images, "train-00000-of-00001.parquet has the shape (6, 33, 32, 3)"),
    "a file less": (lambda folder: (folder / cifar10.MIRROR_FILES["test"]).unlink(), "No such file"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_mirror_with_other_contents_is_refused_and_the_home_server_steps_in(mirror, data_folder, request, trouble):
    make, told = TROUBLES[trouble]
    make(mirror)
    for source in ("huggingface", "auto"):
        with refused("the download of CIFAR-10 from https://", told, "try again"):
            open_data("cifar10", source=source)
        assert listing(data_folder) == {}
    home = request.getfixturevalue("home")
    data = open_data("cifar10")
    assert data.source == "torchvision"
    assert_holds(data.train, *random_objects(15, seed=5))
    assert sorted(file.name for file in data_folder.iterdir()) == ["cifar-10-batches-py", "s18-store"]
    assert home[0].parent == data_folder


LAYOUTS = ["cifar10-pngs-in-folders/cifar10/cifar10", "cifar10", "datasets/owner/set/CIFAR10"]


@pytest.mark.parametrize("path", LAYOUTS)
@pytest.mark.parametrize("names", [("train", "test"), ("TRAINSET", "TESTSET")])
def test_a_folder_of_pngs_per_class_is_read(kaggle, path, names):
    for folder, count in zip(names, (2, 1), strict=True):
        for number, name in enumerate(cifar10.CLASSES):
            (kaggle / path / folder / name).mkdir(parents=True)
            for image in range(count):
                colour = (number, 100, 200 + image)
                Image.new("RGB", (32, 32), colour).save(kaggle / path / folder / name / f"000{image}.png")
    (kaggle / "cinic-10").mkdir()
    shutil.copytree(kaggle / path, kaggle / "cinic-10" / "CINIC")
    data = open_data("cifar10")
    assert (data.source, data.classes, data.official) == ("kaggle", cifar10.CLASSES, 50_000)
    assert (len(data.train["image"]), len(data.test["image"])) == (20, 10)
    assert (data.train["image"][:, 0, 5, 5] == data.train["label"]).all()
    assert data.train["label"].tolist() == [number for number in range(10) for _ in range(2)]


@pytest.mark.parametrize("path", ["cifar-10-python/cifar-10-batches-py", "cifar10-python/any-name", "datasets/a/b/c"])
def test_kaggles_batches_are_read(write_batches, kaggle, path):
    write_batches(kaggle / path)
    data = open_data("cifar10")
    assert data.source == "kaggle"
    assert_holds(data.test, *random_objects(3, seed=1))


def test_the_real_set_is_complete_and_in_the_official_order(real_data):
    real_data(cifar10)
    data = open_data("cifar10")
    assert data.source == "local"
    assert data.train["image"].shape == (50_000, 3, 32, 32)
    assert data.test["image"].shape == (10_000, 3, 32, 32)
    for rows, split in ((data.train, "train"), (data.test, "test")):
        assert hashlib.sha256(rows["label"].numpy()).hexdigest() == cifar10.LABELS_SHA256[split]


def test_real_channels_are_red_green_and_blue(real_data):
    real_data(cifar10)
    train = open_data("cifar10").train
    images, labels = train["image"], train["label"]
    means = images.flatten(2).float().mean(dim=2).double().mean(dim=0) / 255
    # Channels differ by at least 0.009; copies that went through JPEG by 0.0002.
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-4)
    # Where there are ships or planes, the upper part of the picture is blue sky, not red.
    sky = images[(labels == 0) | (labels == 8)][:, :, :8].float().mean(dim=(0, 2, 3))
    assert sky[2] > sky[0] + 10
