"""Training a UNet our way, against the loop that the assignment's kind of notebook has."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from s18_utils.bench.epochs import images_per_second, shorten
from s18_utils.bench.loading import EXPERIMENT, pets_on_disk, plain_loader
from s18_utils.bench.timing import Measurement, per_second, ratios
from s18_utils.data import open_data
from s18_utils.device import device
from s18_utils.experiments import get_experiment
from s18_utils.presets import Preset, default_preset, get_preset
from s18_utils.trainer import autocast, precision
from s18_utils.training import batches_of
from s18_utils.unet import UNetModule

STEPS = 5
LOOP_IMAGES = {"cpu": 256, "cuda": 100_000}  # a CPU need not see them all to tell


def step() -> Measurement:
    """Training steps on one batch: native precision and channels-last, against fp32 and contiguous; the same model."""
    settings = get_preset(EXPERIMENT, default_preset())
    images, masks = random_batch(settings.batch_size, settings.size)
    plain, ours = new_module(settings), new_module(settings).to(memory_format=torch.channels_last)
    laid_out = images.contiguous(memory_format=torch.channels_last)
    ways = {
        "plain: fp32, contiguous": step_of(plain, images, masks, contextlib.nullcontext(), fused=False),
        f"ours: {precision()}, channels-last, fused": step_of(ours, laid_out, masks, autocast(), fused=True),
    }
    return ratios(
        f"training step of {EXPERIMENT}, batch {settings.batch_size} at {settings.size} px, "
        f"width {settings.module['width']}",
        "steps/s",
        {name: lambda way=way: per_second(way, STEPS) for name, way in ways.items()},
    )


def random_batch(count: int, size: int) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 3, size, size, device=device())
    return images, torch.randint(0, 3, (count, size, size), device=device())


def new_module(settings: Preset) -> UNetModule:
    torch.manual_seed(0)
    return get_experiment(EXPERIMENT).build(settings.module).to(device())


def step_of(
    module: UNetModule, images: Tensor, masks: Tensor, precision: AbstractContextManager, fused: bool
) -> Callable[[], None]:
    """A training step of the module on a batch: forward in that precision, backward and AdamW."""
    optimiser = torch.optim.AdamW(module.train().parameters(), lr=1e-3, fused=fused)

    def step() -> None:
        with precision:
            loss = module.loss(module(images), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def loop() -> Measurement:
    """Whole epochs, validation included, from files to weights: the plain loop has no augmentation, ours has."""
    settings = get_preset(EXPERIMENT, default_preset())
    count = LOOP_IMAGES[device().type]
    with pets_on_disk() as (root, source):
        training, validation = (
            plain_loader(root, split, settings.size, settings.batch_size) for split in ("trainval", "test")
        )
        train_count = min(count, len(training.dataset))
        val_count = min(count // 9, len(validation.dataset))
        for loader, images in ((training, train_count), (validation, val_count)):
            loader.dataset._images = loader.dataset._images[:images]
            loader.dataset._segs = loader.dataset._segs[:images]
        plain = PlainLoop(new_module(settings), training, validation)
        ours = new_module(settings).to(memory_format=torch.channels_last)
        store = batches_of(open_data("pets", settings.size, source), settings, seed=0)
        shorten(store, train_count, val_count)
        return ratios(
            f"epoch of {EXPERIMENT} on {train_count} images at {settings.size} px, width {settings.module['width']}, "
            f"validation on {val_count} included, {source} data",
            "images/s",
            {
                "plain: decode, fp32, loss.item() in every step": lambda: train_count * per_second(plain.epoch, 1),
                f"ours: store, augmentation, {precision()}, Lightning": lambda: images_per_second(ours, store),
            },
        )


class PlainLoop:
    """The loop most people would write, as the assignment's own code ran it."""

    def __init__(self, module: UNetModule, training, validation):
        self.module, self.training, self.validation = module, training, validation
        self.optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)

    def epoch(self) -> None:
        self.module.train()
        for images, masks in self.training:
            loss = self.module.loss(self.module(images.to(device())), masks.to(device()))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            loss.item()  # a progress bar shows it
        self.module.eval()
        with torch.no_grad():
            for images, masks in self.validation:
                self.module.loss(self.module(images.to(device())), masks.to(device())).item()


def scaling() -> Measurement:
    """Images per second and memory of a training step, against image size and batch size."""
    settings = get_preset(EXPERIMENT, default_preset())
    rows = []
    for size in (64, 128, 256):
        for count in (4, 16, 64) if device().type == "cuda" else (4, 16):
            module = new_module(settings).to(memory_format=torch.channels_last)
            images, masks = random_batch(count, size)
            way = step_of(module, images.contiguous(memory_format=torch.channels_last), masks, autocast(), fused=True)
            way()  # the first one chooses kernels
            rate = per_second(way, 2)
            rows.append(
                {
                    "size": f"{size} px",
                    "batch": str(count),
                    "images/s": rate * count,
                    "ms/step": 1000 / rate,
                    "ms/megapixel": 1e9 / (rate * count * size**2),
                }
            )
    return Measurement(f"cost of {EXPERIMENT}, width {settings.module['width']}, {precision()}", rows)
