"""Reading MNIST: its four files byte by byte, where they may lie, and files that are not what they should be."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets.mnist
from conftest import REAL_DATA, assert_one_sentence, listing
from PIL import Image, ImageDraw

from s18_utils.data import mnist, open_data, sources, synthetic
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in MNIST's format: two zeros, type 8, number of dimensions, each of them, the data."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def random_digits(train: int = 6, test: int = 3) -> dict[str, np.ndarray]:
    """Noise by name of file."""
    random, arrays = np.random.default_rng(0), {}
    for split, count in (("train", train), ("test", test)):
        images, labels = mnist.FILES[split]
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


@pytest.fixture
def real_mnist(monkeypatch, own_folders) -> None:
    """The user's data directory; skips where `S18_DATA` names none with MNIST."""
    if not REAL_DATA or mnist.find(Path(REAL_DATA)) is None:
        pytest.skip("no real data: S18_DATA names no folder with MNIST")
    monkeypatch.setenv("S18_DATA", REAL_DATA)


def test_every_byte_arrives_where_it_belongs(raw):
    data = open_data("mnist")
    assert data.source == "local"
    for rows, split in ((data.train, "train"), (data.test, "test")):
        images, labels = (random_digits()[name] for name in mnist.FILES[split])
        assert rows["image"].dtype == rows["label"].dtype == torch.uint8
        assert rows["image"].shape == (len(images), 1, 28, 28)
        assert np.array_equal(rows["image"][:, 0].numpy(), images)
        assert rows["label"].tolist() == labels.tolist()
    assert data.train["label"].tolist() == [5, 8, 1, 4, 7, 0]


def test_batches_hold_labels_as_numbers(raw):
    batch = StoreData(open_data("mnist"), batch_size=4).examples(3)
    assert (batch["label"].dtype, batch["label"].tolist()) == (torch.int64, [5, 8, 1])
    expected = random_digits()["t10k-images-idx3-ubyte"].astype(np.float32) / 255
    assert np.allclose(batch["image"][:, 0].numpy(), expected)


@pytest.mark.parametrize("layout", ["MNIST/raw", "raw"])
def test_the_layout_is_found_from_the_folder_or_above_it(tmp_path, layout):
    folder = tmp_path / "data"
    write(folder / layout)
    assert mnist.find(folder) == folder / layout
    assert mnist.find(folder / layout) == folder / layout
    assert mnist.find(tmp_path) is None


def test_the_four_files_go_before_the_single_one(raw, data_folder):
    np.savez(data_folder / "mnist.npz", x_train=0)
    assert mnist.find(data_folder) == raw
    for file in raw.iterdir():
        file.unlink()
    assert mnist.find(data_folder) == data_folder / "mnist.npz"
    (data_folder / "mnist.npz").unlink()
    assert mnist.find(data_folder) is None


@pytest.mark.parametrize("other", ["FashionMNIST", "KMNIST", "fashion-mnist"])
def test_other_sets_with_files_of_the_same_names_are_left_alone(monkeypatch, data_folder, other):
    kaggle = data_folder / "input"
    monkeypatch.setattr(sources, "KAGGLE_INPUT", kaggle)
    write(kaggle / "some-input" / other / "raw")
    assert sources.locate(mnist).source == "synthetic"
    for name in mnist.FILES["train"]:
        (kaggle / "some-input" / name).write_bytes(b"")  # as Kaggle's copy of Fashion-MNIST has them, in no `raw`
    assert sources.locate(mnist).source == "synthetic"
    write(kaggle / "later" / "MNIST" / "raw")
    assert sources.locate(mnist) == sources.Found("kaggle", kaggle / "later" / "MNIST" / "raw")


def change(name: str, edit):
    """Edits the bytes of a file."""
    return lambda raw: (raw / name).write_bytes(edit((raw / name).read_bytes()))


IMAGES, LABELS = mnist.FILES["train"]
FAULTS = {
    "missing labels": (lambda raw: (raw / LABELS).unlink(), (LABELS, "is missing", "put it there, or delete")),
    "missing test images": (
        lambda raw: (raw / "t10k-images-idx3-ubyte").unlink(),
        ("t10k-images-idx3-ubyte is missing", "downloaded again"),
    ),
    "only one file": (
        lambda raw: [(raw / name).unlink() for name in random_digits() if name != LABELS],
        (IMAGES, "is missing"),
    ),
    "a folder": (
        lambda raw: (raw / IMAGES).unlink() or (raw / IMAGES).mkdir(),
        (IMAGES, "is missing", "put it there"),
    ),
    "empty images": (change(IMAGES, lambda content: b""), ("can't read", IMAGES, "damaged", "replace it")),
    "empty labels": (change(LABELS, lambda content: b""), ("can't read", LABELS, "damaged", "replace it")),
    "only a header": (change(IMAGES, lambda content: content[:16]), ("can't read", IMAGES, "damaged")),
    "half a header": (change(IMAGES, lambda content: content[:7]), ("can't read", IMAGES, "damaged")),
    "truncated": (change(IMAGES, lambda content: content[:-1]), ("can't read", IMAGES, "damaged")),
    "too long": (change(LABELS, lambda content: content + b"\x01"), ("can't read", LABELS, "damaged")),
    "a web page": (
        change(IMAGES, lambda content: b"<html>not found</html>"),
        ("can't read", IMAGES, "no file of MNIST"),
    ),
    "still packed": (change(IMAGES, lambda content: b"\x1f\x8b\x08\x08" + content), ("can't read", IMAGES, "damaged")),
    "swapped files": (
        lambda raw: (raw / IMAGES).write_bytes((raw / LABELS).read_bytes()),
        ("can't read", IMAGES, "no file of MNIST"),
    ),
    "other numbers": (
        change(LABELS, lambda content: bytes([0, 0, 9, 1]) + content[4:]),
        ("can't read", LABELS, "damaged or no file of MNIST"),
    ),
    "unknown numbers": (change(LABELS, lambda content: bytes([0, 0, 10, 1]) + content[4:]), ("can't read", LABELS)),
    "another size": (
        change(IMAGES, lambda content: idx(np.zeros((6, 28, 27), np.uint8))),
        (IMAGES, "the shape (6, 28, 27)", "(N, 28, 28)"),
    ),
    "unequal counts": (
        change(LABELS, lambda content: idx(np.zeros(5, np.uint8))),
        (IMAGES, "6 images", LABELS, "5 labels"),
    ),
    "label 10": (change(LABELS, lambda content: content[:-1] + b"\x0a"), (LABELS, "the label 10", "0 to 9")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_files_is_named_and_nothing_is_left_behind(raw, data_folder, fault):
    make, parts = FAULTS[fault]
    make(raw)
    (data_folder / "s18-store").mkdir()  # may be there, but stays empty
    before = listing(data_folder)
    for source in ("auto", "local"):  # above all, `auto` doesn't go on to something else
        with pytest.raises(InputError) as caught:
            open_data("mnist", source=source)
        assert_one_sentence(str(caught.value), *parts)
    assert listing(data_folder) == before


def test_the_stamp_changes_with_each_file(raw):
    stamps = {mnist.stamp(raw)}
    for name in random_digits():
        (raw / name).write_bytes((raw / name).read_bytes() + b"\x00")
        stamps.add(mnist.stamp(raw))
    (raw / "unrelated.gz").write_bytes(b"")
    stamps.add(mnist.stamp(raw))
    assert len(stamps) == 5


@pytest.fixture
def server(monkeypatch) -> dict[str, np.ndarray | Exception]:
    """What torchvision's download delivers, by name of file; an exception is raised."""
    delivers = dict(random_digits())

    def deliver(url, download_root, filename, md5):
        assert url.endswith(filename)
        assert len(md5) == 32
        (Path(download_root) / filename).write_bytes(b"packed")
        content = delivers[filename.removesuffix(".gz")]
        if isinstance(content, BaseException):
            raise content
        (Path(download_root) / filename.removesuffix(".gz")).write_bytes(idx(content))

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", deliver)
    monkeypatch.setattr(sources, "reachable", lambda url: url == mnist.URL)
    return delivers


@pytest.mark.parametrize("source", ["auto", "torchvision"])
def test_a_download_fills_torchvisions_layout(server, data_folder, source):
    data = open_data("mnist", source=source)
    assert data.source == "torchvision"
    assert data.train["label"].tolist() == [5, 8, 1, 4, 7, 0]
    assert sorted(file.name for file in (data_folder / "MNIST" / "raw").iterdir()) == sorted(random_digits())
    assert not list(data_folder.glob(".*"))
    assert torchvision.datasets.MNIST(data_folder, train=False).targets.tolist() == [5, 8, 1]
    assert open_data("mnist").source == "local"


@pytest.mark.parametrize(
    "error", [RuntimeError("File not found or corrupted."), OSError(28, "No space left on device")]
)
def test_a_download_that_breaks_off_leaves_nothing(server, data_folder, error):
    server["t10k-labels-idx1-ubyte"] = error
    with pytest.raises(InputError) as caught:
        open_data("mnist")
    assert_one_sentence(str(caught.value), "the download of MNIST", "failed", "try again")
    assert listing(data_folder) == {}
    server |= random_digits()
    assert open_data("mnist").source == "torchvision"


def test_mnist_has_no_mirror(data_folder):
    with pytest.raises(InputError) as caught:
        open_data("mnist", source="huggingface")
    assert_one_sentence(str(caught.value), "MNIST has no mirror on Hugging Face", "use source='torchvision'")


def test_the_size_is_the_sets_own(raw, data_folder):
    assert open_data("mnist").fingerprint == open_data("mnist", 28).fingerprint
    for size in (0, 16, 27, 32, -28):
        with pytest.raises(InputError) as caught:
            open_data("mnist", size)
        assert_one_sentence(str(caught.value), f"MNIST are 28 pixels wide, not {size}", "leave the size out")
    assert [file.name for file in (data_folder / "s18-store").iterdir()] == ["mnist-real-28.safetensors"]


def test_pets_have_no_size_of_their_own(data_folder):
    with pytest.raises(InputError) as caught:
        open_data("pets")
    assert_one_sentence(str(caught.value), "Oxford-IIIT Pet come in many sizes", "say how many pixels wide")
    with pytest.raises(InputError) as caught:
        open_data("pets", 15)
    assert_one_sentence(str(caught.value), "at least 16 pixels wide, not 15", "choose a larger size")


def test_drawn_digits_stand_in(data_folder, monkeypatch):
    assert mnist.SYNTHETIC == {"train": 20_000, "test": 1000}
    monkeypatch.setattr(mnist, "SYNTHETIC", {"train": 30, "test": 20})
    data = open_data("mnist")
    assert data.source == "synthetic"
    for rows, seed, count in ((data.train, 0, 30), (data.test, 1, 20)):
        images, labels = synthetic.digits(count, seed)
        assert torch.equal(rows["image"], images)
        assert rows["label"].dtype == torch.uint8
        assert rows["label"].tolist() == labels.tolist()
    assert [file.name for file in (data_folder / "s18-store").iterdir()] == ["mnist-synthetic-28.safetensors"]


def test_another_version_of_the_drawings_is_noticed(monkeypatch):
    before = mnist.stamp(None)
    assert mnist.stamp(None) == before
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    assert mnist.stamp(None) != before


def test_the_real_set_is_complete(real_mnist):
    data = open_data("mnist")
    assert data.source == "local"
    assert data.train["image"].shape == (60_000, 1, 28, 28)
    assert data.test["image"].shape == (10_000, 1, 28, 28)
    assert data.train["label"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test["label"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    known = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.train["label"].bincount().tolist() == known


def test_real_digits_are_white_on_black_and_belong_to_their_labels(real_mnist):
    data = open_data("mnist")
    images, labels = data.train["image"][:, 0].float() / 255, data.train["label"]
    assert images.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert images.std().item() == pytest.approx(0.3081, abs=1e-4)
    # The nearest mean image reads 82 % of the test digits; of images and labels out of step, 10 %.
    means = torch.stack([images[labels == digit].mean(dim=0) for digit in range(10)])
    tests = data.test["image"][:, 0].float() / 255
    guesses = torch.cdist(tests.flatten(1), means.flatten(1)).argmin(dim=1)
    assert (guesses == data.test["label"]).float().mean() > 0.8


def drawn_seven(size=(300, 200), paper="white", pen="black", mode="RGB") -> Image.Image:
    """A seven, higher than wide, not in the middle of its paper."""
    picture = Image.new(mode, size, paper)
    ImageDraw.Draw(picture).line([(150, 40), (200, 40), (165, 160)], pen, width=12)
    return picture


def test_a_drawing_fills_mnists_box_and_is_centred_by_its_mass():
    digit = mnist.normalise_digit(drawn_seven())[0]
    rows, columns = digit.sum(1), digit.sum(0)
    assert len(rows.nonzero()) == mnist.BOX
    assert 8 <= len(columns.nonzero()) <= 12  # 50 to 120, and the pen's width
    for mass in (rows, columns):
        assert abs((mass * torch.arange(28)).sum() / mass.sum() - 14) <= 0.5
    assert digit.max() == 1
    assert digit.min() == 0


def test_paper_pen_and_size_do_not_matter():
    digit = mnist.normalise_digit(drawn_seven())
    assert torch.equal(mnist.normalise_digit(drawn_seven(paper="black", pen="white")), digit)
    assert torch.equal(mnist.normalise_digit(drawn_seven(paper=(255, 255, 255, 0), mode="RGBA")), digit)
    assert torch.equal(mnist.normalise_digit(drawn_seven(size=(900, 700))), digit)
    large = mnist.normalise_digit(drawn_seven().resize((1200, 800)))
    assert (large - digit).abs().mean() < 0.01
    grey = mnist.normalise_digit(drawn_seven(paper="#d8d4c0", pen="#30306a"))
    assert (grey - digit).abs().mean() < 0.01


def test_a_photograph_lying_on_its_side_is_turned_upright():
    picture = drawn_seven().rotate(90, expand=True)
    picture.getexif()[0x0112] = 6  # a camera's word for: turn me by 90 degrees clockwise
    assert torch.equal(mnist.normalise_digit(picture), mnist.normalise_digit(drawn_seven()))


@pytest.mark.parametrize("line", [[(10, 90), (190, 90)], [(90, 10), (90, 190)]])
def test_a_single_stroke_keeps_its_shape(line):
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).line(line, 0, width=10)
    digit = mnist.normalise_digit(picture)[0]
    assert sorted([len(digit.sum(0).nonzero()), len(digit.sum(1).nonzero())]) == [1, 20]


def test_a_lopsided_drawing_stays_whole():
    picture = Image.new("L", (200, 200), 255)
    drawing = ImageDraw.Draw(picture)
    drawing.ellipse([10, 10, 60, 60], 0)
    drawing.line([(35, 35), (190, 190)], 0, width=2)
    digit = mnist.normalise_digit(picture)[0]
    assert len(digit.sum(0).nonzero()) == len(digit.sum(1).nonzero()) == mnist.BOX


def test_an_empty_page_is_refused():
    noise = np.random.default_rng(0).integers(235, 250, (100, 100), np.uint8)
    for page in (Image.new("L", (50, 50), 255), Image.fromarray(noise)):
        with pytest.raises(InputError) as caught:
            mnist.normalise_digit(page)
        assert_one_sentence(str(caught.value), "no drawing", "dark on light")


def test_digits_of_mnist_stay_what_they_are(real_mnist):
    differences = []
    for image in open_data("mnist").test["image"][:200, 0]:
        large = Image.fromarray(255 - image.numpy()).resize((280, 280), Image.Resampling.NEAREST)
        again = 255 * mnist.normalise_digit(large)[0]
        differences.append((again - image.float()).abs().mean())
    # Of 255. A shift by one pixel makes a difference of 16, and some lie on the edge between two pixels.
    assert np.quantile(differences, 0.9) < 8
