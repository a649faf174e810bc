"""What the fast paths gain, measured side by side in one run: `python -m s18_utils bench`.

Absolute times differ from machine to machine and from minute to minute; a ratio of two things timed in turn does not.
"""

import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import OxfordIIITPet

from s18_utils import records, training
from s18_utils.data.batches import StoreData
from s18_utils.data.dataset import open_data
from s18_utils.data.sources import data_directory
from s18_utils.device import device, precision, synchronise
from s18_utils.errors import check_choice
from s18_utils.experiments import EXPERIMENTS, build_settings, get_experiment
from s18_utils.fitting import Hardware, Reseed, build_trainer, quiet_lightning
from s18_utils.report.table import Table
from s18_utils.settings import UNetSettings
from s18_utils.unet.module import UNetModule

UNET = "unet-maxpool-transpose-bce"
ROUNDS = 3
SWAPS = 100
IMAGES = {"cpu": 256}  # of an epoch: a CPU need not see them all to tell


@dataclass(frozen=True)
class Measurement:
    """Rows of numbers by name, alike in their names, and a sentence on how they were taken."""

    title: str
    rows: list[dict[str, str | float]]

    def to_table(self) -> Table:
        def to_text(value: str | float) -> str:
            return value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

        return Table(list(self.rows[0]), [[to_text(value) for value in row.values()] for row in self.rows])


def measure(name: str | None = None) -> Iterator[tuple[str, Measurement]]:
    """Takes one measurement, or all of them; an InputError lists what there is."""
    known = {"data": measure_batches, "epochs": measure_epochs, "swap": measure_swaps}
    if name:
        check_choice("measurement", name, known)
        known = {name: known[name]}
    for title, measurement in known.items():
        yield title, measurement()


def measure_batches() -> Measurement:
    """Images per second into float batches.

    Both ways read the same training images, shuffled, without augmentation, and end at a float batch with int64 masks.
    """
    settings = unet_settings()
    with pets_on_disk() as (root, source):
        plain = plain_loader(root, "trainval", settings)
        store = StoreData(open_data("pets", settings.size, source), settings.batch_size)
        ways = {
            "plain: OxfordIIITPet + transforms + DataLoader": lambda: count_per_second(plain),
            "ours: store": lambda: count_per_second(
                store.on_after_batch_transfer(batch) for batch in store.train_dataloader()
            ),
        }
        return compare(f"batches of pets at {settings.size} px, {source} data", ways)


def measure_epochs() -> Measurement:
    """Whole epochs, validation included, from files to weights: the plain loop has no augmentation, ours has."""
    settings = unet_settings()
    with pets_on_disk() as (root, source):
        loaders = [plain_loader(root, split, settings) for split in ("trainval", "test")]
        counts = [len(loader.dataset) for loader in loaders]
        most = IMAGES.get(device().type, counts[0])
        counts = [min(counts[0], most), min(counts[1], most // 9)]
        for loader, count in zip(loaders, counts, strict=True):
            loader.dataset._images = loader.dataset._images[:count]
            loader.dataset._segs = loader.dataset._segs[:count]
        data = open_data("pets", settings.size, source)
        store = training.build_batches(data, settings, seed=0)
        store.train.rows, store.val.rows = store.train.rows[: counts[0]], store.val.rows[: counts[1]]
        plain = functools.partial(plain_epoch, new_unet(settings, data), *loaders)
        ours = new_unet(settings, data).to(memory_format=torch.channels_last)
        ways = {
            "plain: decode, fp32, loss.item() in every step": lambda: counts[0] / seconds_of(plain),
            f"ours: store, augmentation, {precision()}, Lightning": lambda: images_per_second(ours, store),
        }
        title = f"epoch of {UNET} on {counts[0]} images at {settings.size} px, width {settings.width}"
        return compare(f"{title}, validation on {counts[1]} included, {source} data", ways)


def measure_swaps() -> Measurement:
    """Milliseconds of one image drawn under another label, as the widget asks for it: on the CPU, untrained."""
    preset, rows = records.default_preset(), []
    for name, spec in EXPERIMENTS.items():
        if spec.family != "cvae":
            continue
        channels, size = (3, 32) if spec.block["data"] == "cifar10" else (1, 28)
        images = {"classes": tuple("0123456789"), "channels": channels, "size": size}
        module = records.build_module("cvae", build_settings(spec, preset), images).eval()
        image, label = torch.rand(1, channels, size, size), torch.tensor([3])
        swaps = [functools.partial(module.swap, image, label, torch.tensor([n % 10])) for n in range(SWAPS + 10)]
        times = [1000 * seconds_of(swap) for swap in swaps][10:]
        median, late = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        rows.append({"experiment": name, "median in ms": median, "95th percentile in ms": late})
    return Measurement(f"one label swap at {preset}, {SWAPS} times", rows)


def unet_settings() -> UNetSettings:
    """The UNet's settings at the device's preset."""
    return build_settings(get_experiment(UNET), records.default_preset())


def new_unet(settings: UNetSettings, data) -> UNetModule:
    torch.manual_seed(0)
    return records.build_module("unet", settings, training.describe_images(data)).to(device())


@contextlib.contextmanager
def pets_on_disk() -> Iterator[tuple[str, str]]:
    """A folder that torchvision can read pets from, and where they come from; drawn where there are none."""
    data = open_data("pets", 64)
    if not data.synthetic:
        yield str(data_directory()), data.source
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "oxford-iiit-pet"
        (folder / "images").mkdir(parents=True)
        (folder / "annotations" / "trimaps").mkdir(parents=True)
        for listing, part in (("trainval.txt", data.train), ("test.txt", data.test)):
            names = [f"{listing[:4]}_{number}" for number in range(len(part["image"]))]
            for name, image, mask in zip(names, part["image"], part["mask"], strict=True):
                picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((256, 256))
                picture.save(folder / "images" / f"{name}.jpg", quality=90)
                trimap = Image.fromarray((mask + 1).numpy()).resize((256, 256), Image.Resampling.NEAREST)
                trimap.save(folder / "annotations" / "trimaps" / f"{name}.png")
            (folder / "annotations" / listing).write_text("".join(f"{name} 1 1 1\n" for name in names))
        yield temporary, "synthetic"


def plain_loader(root: str, split: str, settings: UNetSettings) -> DataLoader:
    """The loader most people would write; `split` is torchvision's, `trainval` or `test`."""
    shape, nearest = (settings.size, settings.size), transforms.InterpolationMode.NEAREST
    image = transforms.Compose([transforms.Resize(shape), transforms.ToTensor()])
    mask = transforms.Compose(
        [transforms.Resize(shape, interpolation=nearest), transforms.PILToTensor(), transforms.Lambda(to_classes)]
    )
    rows = OxfordIIITPet(root, split, target_types="segmentation", transform=image, target_transform=mask)
    return DataLoader(rows, settings.batch_size, shuffle=split == "trainval", num_workers=2)


def to_classes(mask: Tensor) -> Tensor:
    return mask.squeeze(0).long() - 1


def plain_epoch(module: UNetModule, training_loader: DataLoader, validation_loader: DataLoader) -> None:
    """The loop most people would write, as the assignment's own code ran it."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    module.train()
    for images, masks in training_loader:
        loss = module.loss(module(images.to(device())), masks.to(device()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()  # a progress bar shows it
    module.eval()
    with torch.no_grad():
        for images, masks in validation_loader:
            module.loss(module(images.to(device())), masks.to(device())).item()


class EpochSeconds(L.Callback):
    """Notes what each epoch takes, its validation included."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        synchronise()
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        synchronise()
        self.seconds.append(time.perf_counter() - self.start)


def images_per_second(module: L.LightningModule, data: StoreData) -> float:
    """Training images a second under this project's trainer, in the second of two epochs: the first starts things."""
    clock = EpochSeconds()
    with quiet_lightning():
        build_trainer(2, [Reseed(0), clock], Hardware(), progress=False).fit(module, data)
    steps = len(data.train_dataloader())
    return min(steps * data.batch_size, len(data.train)) / clock.seconds[-1]


def count_per_second(batches: Iterable) -> float:
    """Images a second over one pass."""
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch["image"] if isinstance(batch, dict) else batch[0])
    synchronise()
    return count / (time.perf_counter() - start)


def seconds_of(work: Callable[[], object]) -> float:
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - start


def compare(title: str, ways: dict[str, Callable[[], float]]) -> Measurement:
    """Median rates, taken in turn after a round that does not count, and the median ratio of each to the first."""
    rates = {name: [] for name in ways}
    for count in range(ROUNDS + 1):
        for name, rate in ways.items():
            value = rate()
            if count:
                rates[name].append(value)
    base = next(iter(rates.values()))
    rows = []
    for name, values in rates.items():
        ratio = statistics.median(value / first for value, first in zip(values, base, strict=True))
        rows.append({"way": name, "images/s": statistics.median(values), "ratio": ratio})
    return Measurement(title, rows)
