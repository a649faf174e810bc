"""What an epoch of each experiment takes, and how much of what the device could compute it uses."""

import functools
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import lightning as L
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from s18_utils.bench.timing import Measurement, per_second, seconds_of, synchronise
from s18_utils.data.batches import Batch, StoreData, to_floats
from s18_utils.device import device
from s18_utils.experiments import EXPERIMENTS, get_experiment
from s18_utils.presets import default_preset, get_preset
from s18_utils.trainer import Reseed, autocast, build_trainer, precision, quiet
from s18_utils.training import build_data

STEPS = {"cpu": 12, "cuda": 100_000}  # a CPU need not take them all to tell
SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is the peak
FULL_WIDTH = "unet-maxpool-transpose-bce"


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
    with quiet():
        build_trainer(2, [Reseed(0), clock], progress=False).fit(module, data)
    steps = len(data.train_dataloader())
    return min(steps * data.batch_size, len(data.train)) / clock.seconds[-1]


def shorten(data: StoreData, train: int, val: int) -> StoreData:
    """At most so many training and validation images."""
    data.train.rows, data.val.rows = data.train.rows[:train], data.val.rows[:val]
    return data


def epochs() -> Measurement:
    """Every experiment at the device's preset, each in a process of its own, whose peak memory is then its own.

    Their frozen CNNs are untrained, which costs the same.
    """
    preset = default_preset()
    rows = [in_its_own_process(epoch_of, name, preset) for name in EXPERIMENTS]
    part = f", scaled up from {STEPS['cpu']} steps" if device().type == "cpu" else ""
    return Measurement(f"epochs at {preset}, validation included{part}, {precision()}", rows)


def in_its_own_process(work: Callable[..., dict], *arguments) -> dict:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def epoch_of(name: str, preset: str) -> dict:
    """One experiment's row of `epochs`."""
    settings = get_preset(name, preset)
    data = build_data(name, preset)
    images, seen = len(data.train), STEPS[device().type] * settings.batch_size
    shorten(data, seen, max(1, seen * len(data.val) // images))
    module = get_experiment(name).build(settings.module).to(memory_format=torch.channels_last)
    rate = images_per_second(module, data)
    batch = to_floats(next(iter(data.train_dataloader())))
    return {
        "experiment": name,
        "s/epoch": images / rate,
        "images/s": rate,
        "% of peak": 100 * flops(module, batch) / len(batch["image"]) * rate / peak(),
        "peak memory in MB": peak_memory(),
    }


def full_width() -> Measurement:
    """Training steps of the UNet at its full width, 64 channels, on 128 px: plain, and on a GPU compiled as well."""
    count = 32 if device().type == "cuda" else 2
    images = torch.rand(count, 3, 128, 128, device=device()).contiguous(memory_format=torch.channels_last)
    batch = {"image": images, "mask": torch.randint(0, 3, (count, 128, 128), device=device())}
    rows = []
    for way in ("eager", "compiled") if device().type == "cuda" else ("eager",):
        module = get_experiment(FULL_WIDTH).build({"width": 64}).to(device(), memory_format=torch.channels_last).train()
        optimiser = torch.optim.AdamW(module.parameters(), fused=True)
        work = flops(module, batch)
        if way == "compiled":
            for network in module.networks:
                network.compile()
        step = functools.partial(train_step, module, optimiser, batch)
        first = seconds_of(step)
        step()
        rate = per_second(step, 30 if device().type == "cuda" else 2)
        rows.append(
            {
                "way": way,
                "images/s": rate * count,
                "TFLOP/s": work * rate / 1e12,
                "% of peak": 100 * work * rate / peak(),
                "first step in s": first,
            }
        )
    title = f"{FULL_WIDTH}, width 64, batch {count} at 128 px, {precision()}; peak {peak() / 1e12:.3g} TFLOP/s"
    return Measurement(title, rows)


def train_step(module: L.LightningModule, optimiser: torch.optim.Optimizer, batch: Batch) -> None:
    with autocast():
        loss = loss_of(module, batch)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def loss_of(module: L.LightningModule, batch: Batch) -> Tensor:
    """The loss that a training step of either family takes the gradient of."""
    if "mask" in batch:
        return module.loss(module(batch["image"]), batch["mask"])
    return module.terms(batch["image"], batch["label"], module.hparams.label_weight)["loss"]


def flops(module: L.LightningModule, batch: Batch) -> int:
    """Floating-point operations of one training step, forward and backward, by torch's own counter."""
    module = module.to(device()).train()
    batch = {name: tensor.to(device()) for name, tensor in batch.items()}
    with FlopCounterMode(display=False) as counter, autocast():
        loss_of(module, batch).backward()
    module.zero_grad()
    return counter.get_total_flops()


@functools.cache
def peak() -> float:
    """Floating-point operations a second in the product of two large matrices, in the precision that is trained in."""
    side = SIDE[device().type]
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision(), torch.float32)
    left, right = (torch.randn(side, side, device=device(), dtype=kind) for _ in range(2))
    multiply = functools.partial(torch.matmul, left, right)
    multiply()
    return 2 * side**3 * max(per_second(multiply, 10) for _ in range(3))


def peak_memory() -> float:
    """The most memory in MB that was in use so far: of the GPU by tensors, else of this process."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
