"""What the fast paths gain, measured side by side in one run: `python -m s18_utils bench`.

Absolute times differ from machine to machine and from minute to minute; a ratio of two things timed in turn does not.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import OxfordIIITPet

from s18_utils import records, training
from s18_utils.data.batches import StoreData
from s18_utils.data.dataset import open_data
from s18_utils.data.sources import data_directory
from s18_utils.data.store import DataSet
from s18_utils.device import device, precision, synchronise
from s18_utils.errors import InputError, check_choice
from s18_utils.experiments import EXPERIMENTS, build_settings, get_experiment
from s18_utils.fitting import Hardware, Reseed, build_trainer, quiet_lightning
from s18_utils.report.table import Table
from s18_utils.settings import UNetSettings

UNET = "unet-maxpool-transpose-bce"
ROUNDS = 3
SWAPS = 100
CPU_IMAGES = 256  # of an epoch: a CPU need not see them all to tell


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
    """Takes one measurement, or all of them.

    Raises:
        InputError: an unknown name, or no real photographs to read.
    """
    known = {"data": measure_batches, "epochs": measure_epochs, "swap": measure_swaps}
    if name:
        check_choice("measurement", name, known)
        known = {name: known[name]}
    for title, measurement in known.items():
        yield title, measurement()


def measure_batches() -> Measurement:
    """Images per second into float batches.

    Both ways read training images, shuffled, without augmentation, and end at a float batch with int64 masks; the plain
    one those of the validation cut as well.
    """
    settings = unet_settings()
    data, plain = open_pets(settings), plain_loader("trainval", settings)
    store = StoreData(data, settings.batch_size)
    ways = {
        "plain: OxfordIIITPet + transforms + DataLoader": lambda: count_per_second(plain),
        "ours: store": lambda: count_per_second(map(store.on_after_batch_transfer, store.train_dataloader())),
    }
    return compare(f"batches of pets at {settings.size} px", ways)


def measure_epochs() -> Measurement:
    """Whole epochs, validation included, from files to weights: the plain loop has no augmentation, ours has."""
    settings = unet_settings()
    data, loaders = open_pets(settings), [plain_loader(split, settings) for split in ("trainval", "test")]
    store = training.build_batches(data, settings, seed=0)
    most = CPU_IMAGES if device().type == "cpu" else len(store.train)
    counts = [min(len(store.train), most), min(len(store.val), most // 9)]
    for loader, count in zip(loaders, counts, strict=True):
        loader.dataset._images = loader.dataset._images[:count]
        loader.dataset._segs = loader.dataset._segs[:count]
    store.train.rows, store.val.rows = store.train.rows[: counts[0]], store.val.rows[: counts[1]]
    plain = functools.partial(plain_epoch, new_unet(settings, data), *loaders)
    ours = new_unet(settings, data).to(memory_format=torch.channels_last)
    ways = {
        "plain: decode, fp32, loss.item() in every step": lambda: counts[0] / seconds_of(plain),
        f"ours: store, augmentation, {precision()}, Lightning": lambda: images_per_second(ours, store),
    }
    title = f"epoch of {UNET} on {counts[0]} images at {settings.size} px, width {settings.width}"
    return compare(f"{title}, validation on {counts[1]} included", ways)


def measure_swaps() -> Measurement:
    """Milliseconds of one image drawn under another label, as the widget asks for it: on the CPU, untrained."""
    preset, rows = records.default_preset(), []
    for name, spec in EXPERIMENTS.items():
        if spec.family != "cvae":
            continue
        settings = build_settings(spec, preset)
        data = open_data(settings.data, settings.size, "synthetic")
        module = records.build_module("cvae", settings, training.describe_images(data)).eval()
        image, label = torch.rand(1, *module.image_shape), torch.tensor([3])
        swaps = [functools.partial(module.swap, image, label, torch.tensor([n % 10])) for n in range(SWAPS + 10)]
        times = [1000 * seconds_of(swap) for swap in swaps][10:]
        median, late = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        rows.append({"experiment": name, "median in ms": median, "95th percentile in ms": late})
    return Measurement(f"one label swap at {preset}, {SWAPS} times", rows)


def unet_settings() -> UNetSettings:
    """The UNet's settings at the device's preset."""
    return build_settings(get_experiment(UNET), records.default_preset())


def open_pets(settings: UNetSettings) -> DataSet:
    """The pets in the data directory, where torchvision can read them too."""
    data = open_data("pets", settings.size)
    if not (data_directory() / "oxford-iiit-pet").is_dir():
        raise InputError("there are no photographs to read: name a folder with oxford-iiit-pet in S18_DATA")
    return data


def new_unet(settings: UNetSettings, data: DataSet) -> L.LightningModule:
    torch.manual_seed(0)
    return records.build_module("unet", settings, training.describe_images(data)).to(device())


def plain_loader(split: str, settings: UNetSettings) -> DataLoader:
    """The loader most people would write; `split` is torchvision's, `trainval` or `test`."""
    shape, nearest = (settings.size, settings.size), transforms.InterpolationMode.NEAREST
    image = transforms.Compose([transforms.Resize(shape), transforms.ToTensor()])
    mask = transforms.Compose(
        [transforms.Resize(shape, interpolation=nearest), transforms.PILToTensor(), transforms.Lambda(to_classes)]
    )
    kinds = {"target_types": "segmentation", "transform": image, "target_transform": mask}
    rows = OxfordIIITPet(str(data_directory()), split, **kinds)
    return DataLoader(rows, settings.batch_size, shuffle=split == "trainval", num_workers=2)


def to_classes(mask: Tensor) -> Tensor:
    return mask.squeeze(0).long() - 1


def plain_epoch(module: L.LightningModule, training_loader: DataLoader, validation_loader: DataLoader) -> None:
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
    rounds = [{name: rate() for name, rate in ways.items()} for _ in range(ROUNDS + 1)][1:]
    first = next(iter(ways))
    rows = []
    for name in ways:
        rate = statistics.median(each[name] for each in rounds)
        ratio = statistics.median(each[name] / each[first] for each in rounds)
        rows.append({"way": name, "images/s": rate, "ratio": ratio})
    return Measurement(title, rows)
