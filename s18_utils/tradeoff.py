"""What the label loss buys and what it costs: short trainings of a conditional VAE that differ in one setting each.

Scored on images that were set aside from the training split, so that choosing a weight here spends nothing of the test
split.
"""

import csv
import tempfile
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from s18_utils.data import DataSet, open_data
from s18_utils.data.batches import VALIDATION_SHARE, shuffled_rows
from s18_utils.errors import InputError
from s18_utils.experiments import get_experiment
from s18_utils.hardware import ONE_DEVICE
from s18_utils.plots import new_figure, style_lines
from s18_utils.presets import default_preset, get_preset
from s18_utils.records import PUBLISHED, make_folder, number
from s18_utils.seed_run import train_seed
from s18_utils.table import Table
from s18_utils.training import batches_of, train_helpers

IMAGES, EPOCHS = 20_000, 3
# Of the preset's label weight, from nothing to several times as much.
FACTORS = (0.0, 0.1, 0.3, 1.0, 3.0)
# What the label loss is helped by, left out one at a time, at the preset's weight.
WITHOUT = {
    "at once, undisturbed": {"label_start": -1.0, "label_full": 0.0, "shift": 0, "noise": 0.0, "blur": 0.0},
    "code not read back": {"code_weight": 0.0},
}
SCORES = {
    "mse": "MSE",
    "swap_agreement": "judge",
    "swap_agreement_blurred": "judge, blurred",
    "swap_agreement_frozen": "frozen CNN",
}


def measure(experiment: str, preset: str | None = None, out: str | Path | None = None) -> list[dict]:
    """Trains an experiment once for each label weight and each variant, on a part of the training images.

    Args:
        experiment: the name of a conditional VAE.
        preset: whose network, frozen CNN and judge to use; by default what suits the device.
        out: where the records of frozen CNN and judge are, as for `train_or_load`.

    Returns:
        A row for each training: `variant`, `label_weight`, the scores of `SCORES`, and under `survives …` how much of
        each feature outlives the swap, within classes.

    Raises:
        InputError: not a conditional VAE, or as for `train_or_load`.
    """
    spec = get_experiment(experiment)
    if spec.family != "cvae":
        raise InputError(f"{experiment} has no label loss to weigh: choose cvae-mnist or cvae-cifar10")
    preset = preset or default_preset(experiment)
    settings = get_preset(experiment, preset)
    data = within_training(open_data(spec.data, settings.size, settings.source), settings.limit or IMAGES)
    settings = replace(settings, limit=None, epochs=min(settings.epochs, EPOCHS))
    helpers = train_helpers(spec, preset, None, out)
    weight = settings.module["label_weight"]
    variants = [("", {"label_weight": factor * weight}) for factor in FACTORS] + list(WITHOUT.items())
    rows = []
    for variant, changes in variants:
        changed = replace(settings, module=settings.module | changes)
        with tempfile.TemporaryDirectory() as folder:
            batches = batches_of(data, changed, seed=0)
            test = train_seed(spec, changed, batches, 0, Path(folder), helpers, ONE_DEVICE, resume=False).test
        row = {"variant": variant, "label_weight": changed.module["label_weight"]}
        row |= {name: test[name] for name in SCORES}
        rows.append(row | {f"survives {name}": value["within_class"] for name, value in test["survives"].items()})
    return rows


def within_training(data: DataSet, limit: int) -> DataSet:
    """A data set whose test images are the validation cut of another, and its training images some of the others."""
    rows = shuffled_rows(data.train, None)
    cut = round(len(rows) * VALIDATION_SHARE)

    def pick(rows: Tensor) -> dict[str, Tensor]:
        return {name: values[rows] for name, values in data.train.items()}

    return data._replace(train=pick(rows[cut : cut + limit]), test=pick(rows[:cut]))


def write(experiment: str, rows: list[dict], folder: Path = PUBLISHED / "tradeoffs") -> Path:
    """Writes the rows as `<experiment>.csv` and their plot as `.png`; returns the table's path."""
    file = make_folder(folder) / f"{experiment}.csv"
    with open(file, "w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{x:.5g}" if isinstance(x, float) else x for name, x in row.items()} for row in rows)
    plot(experiment, rows).savefig(file.with_suffix(".png"))
    return file


def read(experiment: str, folder: Path = PUBLISHED / "tradeoffs") -> list[dict]:
    """The rows of a measurement that was kept; an InputError says how to make one."""
    file = folder / f"{experiment}.csv"
    if not file.is_file():
        raise InputError(f"{file} is missing: run `python -m s18_utils tradeoff {experiment}` first")
    with open(file, newline="") as opened:
        return [
            {name: text if name == "variant" else number(text) for name, text in row.items()}
            for row in csv.DictReader(opened)
        ]


def plot(experiment: str, rows: list[dict]) -> Figure:
    """Agreement, reconstruction and what survives against the weight of the label loss."""
    rows = [row for row in rows if not row["variant"]]
    weights = [row["label_weight"] for row in rows]
    kept = [name for name in rows[0] if name.startswith("survives ")]
    panels = {
        "share of swaps read as asked": {name: label for name, label in SCORES.items() if name != "mse"},
        "mean squared error": {"mse": "under the true label"},
        "correlation within classes": {name: name.removeprefix("survives ").replace("_", " ") for name in kept},
    }
    title = f"{get_experiment(experiment).title}: what the weight of the label loss buys and costs"
    figure, axes = new_figure(title, columns=3, width=11, height=3.4)
    for axis, (label, lines) in zip(axes[0], panels.items(), strict=True):
        for name, legend in lines.items():
            axis.plot(weights, [row[name] for row in rows], marker="o", label=legend)
        axis.set_xscale("symlog", linthresh=min(filter(None, weights)))
        axis.set_xticks(weights, [f"{weight:g}" for weight in weights])
        axis.minorticks_off()
        style_lines(axis, "weight of the label loss", label)
    return figure


def table(rows: list[dict]) -> Table:
    """All rows, the variants too."""
    kept = [name for name in rows[0] if name.startswith("survives ")]
    header = ["variant", "label weight", *SCORES.values(), *(name.replace("_", " ") for name in kept)]
    cells = [[f"{row[name]:.4f}" for name in (*SCORES, *kept)] for row in rows]
    return Table(
        header, [[row["variant"], f"{row['label_weight']:g}", *line] for row, line in zip(rows, cells, strict=True)]
    )
