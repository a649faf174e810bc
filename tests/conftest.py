"""What the tests share: folders of their own, so that nothing they do touches the user's data or records."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pytest
import torch
from filelock import FileLock
from PIL import Image
from playwright import sync_api as playwright
from safetensors.torch import load_file
from torch import Tensor

from s18_utils import __main__ as command_line
from s18_utils import device as devices
from s18_utils import fitting, records, training
from s18_utils.data import sources
from s18_utils.data.store import DataSet
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import Record

REAL_DATA = os.environ.get("S18_DATA")
on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="sums on a GPU are not the same to the last bit")

# The committed notebooks, and a test for each of them.
NOTEBOOK_FILES = sorted(Path(__file__).resolve().parents[1].joinpath("notebooks").glob("*.ipynb"))
EVERY_NOTEBOOK = pytest.mark.parametrize("file", NOTEBOOK_FILES, ids=lambda file: file.stem)


def code_cells(file: Path) -> list[dict]:
    """The code cells of a notebook."""
    return [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]


def watch_page(page: playwright.Page, wrong: list[str], asked: list[str]) -> None:
    """Notes what goes wrong in a page, and which addresses it asks for."""
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("request", lambda request: asked.append(request.url))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory) -> Path:
    """One folder for all processes that share out the tests."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def shared_store(session_folder) -> Path:
    """One data directory for the whole session, so that synthetic sets are drawn once."""
    (session_folder / "data").mkdir(exist_ok=True)
    return session_folder / "data"


@pytest.fixture(scope="session")
def trained_cvae(session_folder, shared_store) -> Path:
    """A folder with the records of cvae-mnist and of its networks at `tiny`, to read only."""
    out = session_folder / "trained-cvae"
    with FileLock(session_folder / "trained-cvae.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("S18_DATA", str(shared_store))
        patch.setenv("S18_RUNS", str(session_folder / "no-runs"))  # what notebooks have trained is not taken
        patch.setattr(sources, "reachable", lambda url: False)
        training.train_or_load("cvae-mnist", "tiny", out=out)
    return out


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path, shared_store) -> None:
    """Points the package at temporary folders, and away from the network."""
    monkeypatch.setenv("S18_DATA", str(shared_store))
    monkeypatch.setenv("S18_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("S18_PRESET", raising=False)
    monkeypatch.setattr(sources, "reachable", lambda url: False)
    monkeypatch.setattr(sources, "KAGGLE_INPUT", tmp_path / "no-kaggle")


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    """pyplot keeps no figure, of which a notebook would show a second copy."""
    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


@pytest.fixture
def real_data(monkeypatch, own_folders) -> Callable[[ModuleType], Path]:
    """Points the package at the user's data directory; skips where `S18_DATA` names none with that reader's set."""

    def find(reader: ModuleType) -> Path:
        root = reader.find(Path(REAL_DATA)) if REAL_DATA else None
        if root is None:
            pytest.skip(f"no real data: S18_DATA names no folder with {reader.TITLE}")
        monkeypatch.setenv("S18_DATA", REAL_DATA)
        return root

    return find


@pytest.fixture(scope="session")
def chromium() -> Iterator[playwright.Browser]:
    """A headless Chromium, the system's or Playwright's own; skips where there is neither."""
    names = ("chromium", "chromium-browser", "google-chrome")
    system = next((path for name in names if (path := shutil.which(name))), None)
    with playwright.sync_playwright() as driver:
        path = system or driver.chromium.executable_path
        if not Path(path).is_file():
            pytest.skip("no Chromium: install one, or run `python -m playwright install chromium`")
        # Containers give Chromium little shared memory and no user of its own; nothing here needs the network.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture
def cpu(monkeypatch) -> None:
    """Trains and scores on the CPU, where numbers are the same to the last bit, whatever else is there."""
    for module in (devices, fitting):
        monkeypatch.setattr(module, "device", lambda: torch.device("cpu"))


DRAW_RECORD = training.draw_record


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Records have no pictures, which take longer than a small training."""
    monkeypatch.setattr(training, "draw_record", lambda *arguments: {})


@pytest.fixture
def drawn(monkeypatch, small) -> None:
    """Records of small UNets have their pictures all the same."""
    monkeypatch.setattr(training, "draw_record", DRAW_RECORD)


@pytest.fixture
def small(monkeypatch, tmp_path, undrawn) -> Callable[..., None]:
    """Makes the UNets smaller still, and takes the repository's own records away; call it to change a setting."""

    def change(**settings) -> None:
        for experiment in EXPERIMENTS.values():
            if experiment.family == "unet":
                for name, value in settings.items():
                    monkeypatch.setitem(experiment.block, name, value)

    monkeypatch.setattr(records, "PUBLISHED", tmp_path / "none-published")
    change(size=32, epochs=2, batch_size=8, limit=24, source="synthetic", width=4, learning_rate=4e-3)
    return change


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command line in this process; gives its exit status, output and errors."""

    def call(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["s18_utils", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            command_line.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def trained(monkeypatch) -> list[int]:
    """The seeds that were trained with, in order."""
    seeds, train_seed = [], training.train_seed

    def counted(build, data, seed, *rest):
        seeds.append(seed)
        return train_seed(build, data, seed, *rest)

    monkeypatch.setattr(training, "train_seed", counted)
    return seeds


@pytest.fixture
def data_folder(monkeypatch, tmp_path) -> Path:
    """An empty data directory for this test alone."""
    folder = tmp_path / "own-data"
    folder.mkdir()
    monkeypatch.setenv("S18_DATA", str(folder))
    return folder


@pytest.fixture
def kaggle(monkeypatch, data_folder) -> Path:
    """The inputs of a Kaggle notebook; the data directory is empty."""
    folder = data_folder.parent / "kaggle-input"
    folder.mkdir()
    monkeypatch.setattr(sources, "KAGGLE_INPUT", folder)
    return folder


def random_pets(train: int = 4, test: int = 2, size: int = 24, seed: int = 0) -> tuple[dict, dict]:
    """Smooth images and masks of all three classes, uint8, keyed by split."""
    generator = torch.Generator().manual_seed(seed)
    images, masks = {}, {}
    for split, count in (("train", train), ("test", test)):
        coarse = torch.rand(count, 3, 4, 4, generator=generator) * 255
        smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
        images[split] = smooth.round().to(torch.uint8)
        blocks = torch.randint(0, 3, (count, 1, 4, 4), generator=generator).float()
        masks[split] = torch.nn.functional.interpolate(blocks, (size, size))[:, 0].to(torch.uint8)
    return images, masks


def write_pets(root: Path, images: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
    """Lays images and masks, keyed by split, out as torchvision expects them."""
    for folder in ("images", "annotations/trimaps"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, listed in (("train", "trainval.txt"), ("test", "test.txt")):
        names = [f"{split}_{number}" for number in range(len(images[split]))]
        for name, image, mask in zip(names, images[split], masks[split], strict=True):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / "images" / f"{name}.jpg", quality=90)
            Image.fromarray((mask + 1).numpy()).save(root / "annotations" / "trimaps" / f"{name}.png")
        (root / "annotations" / listed).write_text("".join(f"{name} 1 1 1\n" for name in names))


@pytest.fixture
def pets_folder(data_folder) -> Path:
    """A small set in torchvision's layout in a data directory of this test's own."""
    write_pets(data_folder / "oxford-iiit-pet", *random_pets())
    return data_folder / "oxford-iiit-pet"


def tensor_set(train: int, test: int = 2, size: int = 16, source: str = "synthetic") -> DataSet:
    """A data set whose n-th image is n everywhere, so that a row can be told from its pixels."""

    def split(count: int) -> dict[str, Tensor]:
        number = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1)
        return {
            "image": number.unsqueeze(1).repeat(1, 3, size, size),
            "mask": (number % 3).repeat(1, size, size),
        }

    classes = ("pet", "background", "border")
    return DataSet("pets", "Oxford-IIIT Pet", source, "0123456789abcdef", classes, 3680, split(train), split(test))


def sample_metrics(**changes) -> dict:
    """Made-up `metrics.json` of one seed on synthetic data."""
    base = {
        "experiment": "unet-maxpool-transpose-bce",
        "preset": "tiny",
        "data": {
            "name": "pets",
            "title": "Oxford-IIIT Pet",
            "source": "synthetic",
            "official": 3680,
            "classes": ["pet", "background", "border"],
            "channels": 3,
            "size": 32,
            "train": 1234,
            "val": 137,
            "test": 56,
            "fingerprint": "0123456789abcdef",
        },
        "device": "CPU, 2 threads",
        "precision": "32-true",
        "epochs": 2,
        "interrupted": False,
        "seconds": 61.4,
        "seeds": [0],
        "commit": "abc1234",
        "versions": {"torch": "2.6.0"},
        "parameters": 31_037_763,
        "validation": {"val_loss": 0.5, "val_mean_iou": 0.6},
        "test": {
            "loss": 0.5,
            "pooled_dice_loss": 0.25,
            "pixel_accuracy": 0.875,
            "mean_iou": 0.6,
            "mean_dice": 0.75,
            "iou": {"pet": 0.7, "background": 0.8, "border": 0.3},
            "dice": {"pet": 0.82, "background": 0.89, "border": 0.46},
        },
        "spread": {},
    }
    return base | changes


def sample_history(seeds: int = 1, epochs: int = 2) -> list[dict]:
    """Rows whose numbers tell seed and epoch."""
    return [
        {
            "seed": seed,
            "epoch": epoch,
            "seconds": 1.5,
            "train_loss": 1 / epoch + seed,
            "val_loss": 1.25 / epoch + seed,
            "val_pooled_dice_loss": 0.5 / epoch + seed,
            "val_mean_iou": 0.1 * epoch,
        }
        for seed in range(seeds)
        for epoch in range(1, epochs + 1)
    ]


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below `folder` with its bytes, to show that nothing changed."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_one_sentence(message: str, *parts: str) -> None:
    """One line, no full stop inside or at its end, a colon before what to do, and every one of `parts` in it."""
    assert "\n" not in message
    problem, colon, remedy = message.rpartition(": ")
    assert colon, f"says not what to do: {message}"
    assert len(problem.split()) >= 3, message
    assert len(remedy.split()) >= 2, message
    assert ". " not in message, message
    assert not message.endswith("."), message
    for part in parts:
        assert part in message, message


@contextmanager
def refused(*parts: str) -> Iterator[None]:
    """What is done inside raises an InputError of one sentence, with every one of `parts` in it."""
    with pytest.raises(InputError) as caught:
        yield
    assert_one_sentence(str(caught.value), *parts)


def weights(record: Record) -> dict[str, Tensor]:
    return load_file(record.folder / "weights.safetensors")


def snapshot(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without_seconds(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupt() -> None:
    raise KeyboardInterrupt


def interrupt_in(monkeypatch, module: type, epoch: int, batch: int, how: Callable[[], object] = interrupt) -> None:
    """Interrupts the next training of a module's class once, before a batch of an epoch, both counted from 0."""
    start, left = module.training_step, [1]

    def step(self, data, batch_idx):
        if left[0] and self.current_epoch == epoch and batch_idx == batch:
            left[0] = 0
            how()
        return start(self, data, batch_idx)

    monkeypatch.setattr(module, "training_step", step)
