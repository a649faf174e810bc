"""What a run leaves behind, and reading it back.

A record is a folder `<out>/<experiment>/` with `metrics.json` (what, on what, how good), `history.csv` (a row per seed
and epoch), `config.json` and `weights.safetensors` (the first seed's model, no pickles) and the PNGs drawn from them.
A conditional VAE's has `examples.safetensors` too: test images to draw anew where there are no data at hand.
"""

import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from s18_utils.data.batches import Batch, evenly_spread, to_floats
from s18_utils.data.sources import make_writable
from s18_utils.errors import InputError
from s18_utils.experiments import get_experiment

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy")
HERE = Path(__file__).resolve().parent
# The records of the repository itself: inside an installed copy, beside the package in a checkout.
PUBLISHED = HERE / "figures" if (HERE / "figures").is_dir() else HERE.parent / "figures"


@dataclass(frozen=True)
class Record:
    """One run: `metrics` as in `metrics.json`, `history` as a list of rows, and the folder they are in.

    `kept` are some of its test images with their labels, uint8, for those families whose pictures need them.
    """

    folder: Path
    metrics: dict
    history: list[dict]
    kept: Batch = field(default_factory=dict)

    @cached_property
    def config(self) -> dict:
        """What the run was made with; a run with the same config would repeat it."""
        return read_json(self.folder / "config.json")

    @property
    def synthetic(self) -> bool:
        return self.metrics["data"]["source"] == "synthetic"

    @property
    def has_weights(self) -> bool:
        return (self.folder / "weights.safetensors").is_file()

    def title(self) -> str:
        """The experiment's title, with the word *synthetic* where the data were."""
        title = get_experiment(self.metrics["experiment"]).title
        return f"{title} (synthetic data)" if self.synthetic else title

    @property
    def published(self) -> bool:
        """Whether it is one of the repository's own."""
        return self.folder.parent == PUBLISHED

    def examples(self, count: int) -> Batch:
        """Up to `count` of the test images that it keeps, always the same, as a float batch; an InputError if none."""
        if not self.kept:
            raise InputError(f"{self.folder} keeps no test images: train {self.metrics['experiment']} again")
        rows = evenly_spread(len(self.kept["label"]), count)
        return to_floats({name: values[rows] for name, values in self.kept.items()})

    def model(self) -> torch.nn.Module:
        """The trained module, in evaluation mode, on the CPU.

        Raises:
            InputError: the record has no weights, or weights that do not fit its config.
        """
        if not self.has_weights:
            raise InputError(f"{self.folder} keeps no weights: train {self.metrics['experiment']} first")
        try:
            module = get_experiment(self.metrics["experiment"]).build(self.config["module"])
            module.load_state_dict(load_file(self.folder / "weights.safetensors"))
        except (RuntimeError, KeyError, TypeError, OSError, SafetensorError) as error:
            raise InputError(
                f"the weights in {self.folder} do not fit its config.json: delete the folder and train again"
            ) from error
        return module.eval().to(memory_format=torch.channels_last)


def runs_folder(preset: str) -> Path:
    """Where runs of a preset are kept unless told otherwise: `$S18_RUNS/<preset>`, `runs/<preset>` without it."""
    return Path(os.environ.get("S18_RUNS") or "runs") / preset


def read_record(folder: Path) -> Record | None:
    """The record in a folder, or None if there is none."""
    if not (folder / "metrics.json").is_file():
        return None
    metrics = read_json(folder / "metrics.json")
    try:
        with open(folder / "history.csv", newline="") as file:
            history = [{name: number(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise damaged(folder / "history.csv", error) from error
    return Record(folder, metrics, history, read_examples(folder / "examples.safetensors"))


def read_examples(file: Path) -> Batch:
    try:
        return load_file(file) if file.is_file() else {}
    except (OSError, SafetensorError) as error:
        raise damaged(file, error) from error


def find_record(experiment: str, preset: str, out: Path | None = None) -> Record | None:
    """The record of an experiment in `out`; without `out` of that preset, from its runs or the repository's own."""
    get_experiment(experiment)
    if out:
        return read_record(Path(out) / experiment)
    records = (read_record(folder / experiment) for folder in (runs_folder(preset), PUBLISHED))
    return next((record for record in records if record and record.metrics["preset"] == preset), None)


def load_model(experiment: str, preset: str = "full", out: Path | None = None) -> torch.nn.Module:
    """The trained module of an experiment's record, in evaluation mode; an InputError if there is no such record."""
    record = find_record(experiment, preset, out)
    if record is None:
        raise InputError(f"there is no record of {experiment}: run `python -m s18_utils fit {experiment}` first")
    return record.model()


def write_record(record: Record, config: dict, weights: dict[str, torch.Tensor], figures: dict[str, Figure]) -> Record:
    """Writes a whole record in place of whatever its folder held; at no time is it half there.

    Args:
        record: the metrics and history, and the folder to write them to.
        config: what a run of the same settings would have.
        weights: the state dict of the first seed's model.
        figures: pictures by name.

    Raises:
        InputError: the folder can't be written to.
    """
    folder = record.folder
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=make_folder(folder.parent)))
    try:
        write_json(partial / "metrics.json", record.metrics)
        write_json(partial / "config.json", config)
        names = list(dict.fromkeys(name for row in record.history for name in row))
        with open(partial / "history.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(record.history)
        for name, tensors in {"weights": weights, "examples": record.kept}.items():
            if tensors:
                file = partial / f"{name}.safetensors"
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
                file.chmod(0o644)  # safetensors writes private files
        save_figures(partial, figures)
        partial.chmod(0o755)  # temporary folders are private
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"can't write {folder} ({error}): free some space, or choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def save_figures(folder: Path, figures: dict[str, Figure]) -> None:
    """Writes figures as `<name>.png` into a folder."""
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def make_folder(folder: Path) -> Path:
    """Makes a folder for records and returns it; an InputError says what to do if it can't be written to."""
    return make_writable(folder, "choose another folder with --out or S18_RUNS")


def summarise(results: list[dict]) -> tuple[dict, dict]:
    """Mean and sample standard deviation over seeds, key by key through nested dicts (no spread for one seed)."""

    def over_seeds(statistic, values: list):
        if isinstance(values[0], dict):
            return {key: over_seeds(statistic, [value[key] for value in values]) for key in values[0]}
        if isinstance(values[0], list):
            return [over_seeds(statistic, list(items)) for items in zip(*values, strict=True)]
        return statistic(values)

    mean = over_seeds(statistics.fmean, results)
    return mean, over_seeds(statistics.stdev, results) if len(results) > 1 else {}


def surroundings() -> dict:
    """What a number depends on beside data and code: the versions, and the commit of a checkout."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {"commit": commit(), "versions": versions}


def commit() -> str:
    """The short hash of the checkout this package runs from, with `+` if files differ from it; else its version."""
    from s18_utils import __version__

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", HERE, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        tracked = git("ls-files", "--", __file__)
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "") if tracked else __version__
    except (OSError, subprocess.CalledProcessError):
        return __version__


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"can't read {path} ({error}): delete {path.parent} and train again")


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and "." not in text else value
