"""What a user waits for or pays: imports, one label swap, memory that grows."""

import functools
import statistics
import subprocess
import sys
import time

import lightning as L
import torch

from s18_utils.bench.epochs import peak_memory, shorten
from s18_utils.bench.loading import EXPERIMENT
from s18_utils.bench.timing import ROUNDS, Measurement, in_turn, seconds_of
from s18_utils.experiments import EXPERIMENTS, get_experiment
from s18_utils.presets import default_preset, get_preset
from s18_utils.trainer import Reseed, build_trainer, quiet
from s18_utils.training import build_data

SWAPS = 100
EPOCHS = 6


def imports() -> Measurement:
    """Milliseconds until a new interpreter has imported something, less those of one that imports nothing."""
    statements = ("pass", "import s18_utils", "import s18_utils.__main__", "import torch", "import s18_utils.training")
    times = in_turn({statement: lambda statement=statement: start_up(statement) for statement in statements})
    empty = statistics.median(times["pass"])
    rows = [{"statement": name, "ms": 1000 * (statistics.median(times[name]) - empty)} for name in statements[1:]]
    return Measurement(f"imports, median of {ROUNDS} new interpreters each", rows)


def start_up(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def swap() -> Measurement:
    """Milliseconds of one image drawn under another label, as the widget asks for it: on the CPU, untrained."""
    preset, rows = default_preset(), []
    for name, spec in EXPERIMENTS.items():
        if spec.family != "cvae":
            continue
        module = spec.build(get_preset(name, preset).module).eval()
        image, label = torch.rand(1, *spec.model["image_shape"]), torch.tensor([3])
        swaps = [
            functools.partial(module.swap, image, label, torch.tensor([asked % 10])) for asked in range(SWAPS + 10)
        ]
        times = [1000 * seconds_of(swap) for swap in swaps][10:]
        median, late = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        rows.append({"experiment": name, "median in ms": median, "95th percentile in ms": late})
    return Measurement(f"one label swap at {preset}, {SWAPS} times", rows)


def memory() -> Measurement:
    """Peak memory after each epoch of a short training: it should not grow from the second on."""
    preset = default_preset()
    data = shorten(build_data(EXPERIMENT, preset), 64, 16)
    module = get_experiment(EXPERIMENT).build(get_preset(EXPERIMENT, preset).module)
    peaks = PeakMemory()
    with quiet():
        trainer = build_trainer(EPOCHS, [Reseed(0), peaks], progress=False)
        trainer.fit(module.to(memory_format=torch.channels_last), data)
    rows = [{"epoch": str(number), "peak memory in MB": peak} for number, peak in enumerate(peaks.after, start=1)]
    return Measurement(f"memory of a training of {EXPERIMENT} at {preset}", rows)


class PeakMemory(L.Callback):
    """Notes the peak memory after each epoch."""

    def __init__(self):
        self.after: list[float] = []

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.after.append(peak_memory())
