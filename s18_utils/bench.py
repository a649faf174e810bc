"""Ratios measured side by side in one process: what the store and the training step gain over the plain way.

Absolute times differ from machine to machine and from minute to minute; a ratio of two things timed in turn does not.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import OxfordIIITPet

from s18_utils.data import open_data, pets
from s18_utils.data.batches import StoreData
from s18_utils.data.sources import locate
from s18_utils.device import device
from s18_utils.experiments import get_experiment
from s18_utils.presets import default_preset, get_preset
from s18_utils.tables import Table
from s18_utils.trainer import autocast, precision
from s18_utils.unet import UNetModule

EXPERIMENT = "unet-maxpool-transpose-bce"
ROUNDS = 3
STEPS = 5


def bench_data(size: int | None = None) -> Table:
    """Images per second into float batches: the store, against torchvision's data set and transforms in a `DataLoader`.

    Both read the same training images, shuffled, without augmentation, and end at a float batch with int64 masks.
    """
    settings = get_preset(EXPERIMENT, default_preset())
    size = size or settings.size
    found = locate(pets, "auto")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "oxford-iiit-pet"
        if found.root:
            folder.symlink_to(found.root, target_is_directory=True)
        else:
            images, masks = pets.synthetic.pets(256, 256, seed=0)
            pets.write(folder, {"train": images, "test": images[:1]}, {"train": masks, "test": masks[:1]})
        plain = plain_loader(temporary, size, settings.batch_size)
        data = StoreData(open_data("pets", size, found.source), settings.batch_size)
        rates = in_turn(
            {
                "plain: OxfordIIITPet + transforms + DataLoader": lambda: images_per_second(plain),
                "ours: store": lambda: images_per_second(
                    data.on_after_batch_transfer(batch) for batch in data.train_dataloader()
                ),
            }
        )
    return ratios(rates, f"images/s at {size} px, {found.source} data")


def plain_loader(root: str, size: int, batch_size: int) -> DataLoader:
    """The loader most people would write."""
    image = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    mask = transforms.Compose(
        [
            transforms.Resize((size, size), interpolation=transforms.InterpolationMode.NEAREST),
            transforms.PILToTensor(),
            transforms.Lambda(to_classes),
        ]
    )
    data = OxfordIIITPet(root, "trainval", target_types="segmentation", transform=image, target_transform=mask)
    return DataLoader(data, batch_size, shuffle=True, num_workers=2)


def to_classes(mask: Tensor) -> Tensor:
    return mask.squeeze(0).long() - 1


def images_per_second(batches) -> float:
    """Images a second over one pass."""
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch["image"] if isinstance(batch, dict) else batch[0])
    return count / (time.perf_counter() - start)


def bench_train() -> Table:
    """Training steps per second: native precision and channels-last, against fp32 and contiguous; the same model."""
    settings = get_preset(EXPERIMENT, default_preset())
    batch = {
        "image": torch.rand(settings.batch_size, 3, settings.size, settings.size, device=device()),
        "mask": torch.randint(0, 3, (settings.batch_size, settings.size, settings.size), device=device()),
    }
    torch.manual_seed(0)
    plain, ours = (get_experiment(EXPERIMENT).build(settings.module) for _ in range(2))
    laid_out = {"image": batch["image"].contiguous(memory_format=torch.channels_last), "mask": batch["mask"]}
    ours = ours.to(memory_format=torch.channels_last)
    steps = {
        "plain: fp32, contiguous": step_of(plain, batch, contextlib.nullcontext()),
        f"ours: {precision()}, channels-last": step_of(ours, laid_out, autocast()),
    }
    rates = in_turn({name: lambda step=step: steps_per_second(step) for name, step in steps.items()})
    return ratios(
        rates, f"steps/s, batch {settings.batch_size} at {settings.size} px, width {settings.module['width']}"
    )


def step_of(module: UNetModule, batch: dict[str, Tensor], precision: AbstractContextManager) -> Callable[[], None]:
    """A training step of the module on a batch: forward in that precision, backward and AdamW."""
    module = module.to(batch["image"].device).train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)

    def step() -> None:
        with precision:
            loss = module.loss(module(batch["image"]), batch["mask"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def steps_per_second(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    if device().type == "cuda":
        torch.cuda.synchronize()
    return STEPS / (time.perf_counter() - start)


def in_turn(measures: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Takes every measure `ROUNDS` times in turn, after a round that does not count, so that drift hits all alike."""
    results = {name: [] for name in measures}
    for count in range(ROUNDS + 1):
        for name, measure in measures.items():
            rate = measure()
            if count:
                results[name].append(rate)
    return results


def ratios(rates: dict[str, list[float]], unit: str) -> Table:
    """Median rates, and the median over rounds of each rate's ratio to the first."""
    base = next(iter(rates.values()))
    rows = []
    for name, values in rates.items():
        ratio = statistics.median(value / first for value, first in zip(values, base, strict=True))
        rows.append([name, f"{statistics.median(values):,.1f}", f"{ratio:.1f}×"])
    return Table([unit, "median", "ratio"], rows)
