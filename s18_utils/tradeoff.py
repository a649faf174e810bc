"""What the label loss buys and what it costs: short trainings of a conditional VAE that differ in one setting each.

Scored on images that were set aside from the training split, so that choosing a weight here spends nothing of the test
split.
"""

import statistics
import tempfile
import time
from dataclasses import asdict, replace
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
from s18_utils.records import PUBLISHED, Record, read_record, surroundings, write_record
from s18_utils.seed_run import train_seed
from s18_utils.table import Table
from s18_utils.trainer import describe_device, precision
from s18_utils.training import batches_of, train_helpers

IMAGES, EPOCHS = 20_000, 3
# Of the preset's label weight, from nothing to several times as much.
FACTORS = (0.0, 0.1, 0.3, 1.0, 3.0)
# Two variants at the preset's weight: without what helps the label loss, and with one term more.
UNDISTURBED = {"label_start": -1.0, "label_full": 0.0, "shift": 0, "noise": 0.0, "blur": 0.0}  # and at once
CODE_READ = {"code_weight": 1.0}
SCORES = {
    "mse": "MSE",
    "swap_agreement": "judge",
    "swap_agreement_blurred": "judge, blurred",
    "swap_agreement_frozen": "frozen CNN",
}


def measure(
    experiment: str, preset: str | None = None, out: str | Path | None = None, folder: Path = PUBLISHED
) -> Record:
    """Trains an experiment once for each label weight and each variant, on a part of the training images.

    Args:
        experiment: the name of a conditional VAE.
        preset: whose network, frozen CNN and judge to use; by default what suits the device.
        out: where the records of frozen CNN and judge are, as for `train_or_load`.
        folder: where to keep the measurement, as the record `<experiment>-tradeoff`.

    Returns:
        A record whose history has a row for each training: `label_weight`; `disturbed`, 0 where the label loss had its
        whole weight at once and saw drawings as they are; `code_weight`; the scores of `SCORES`; and under
        `survives …` how much of each feature outlives the swap, within classes.

    Raises:
        InputError: not a conditional VAE, or as for `train_or_load`.
    """
    spec = get_experiment(experiment)
    if spec.family != "cvae":
        raise InputError(f"{experiment} has no label loss to weigh: choose cvae-mnist or cvae-cifar10")
    preset = preset or default_preset(experiment)
    settings = get_preset(experiment, preset)
    whole = open_data(spec.data, settings.size, settings.source)
    data = within_training(whole, settings.limit or IMAGES)
    settings = replace(settings, limit=None, epochs=min(settings.epochs, EPOCHS))
    helpers = train_helpers(spec, preset, None, out)
    weight, start = settings.module["label_weight"], time.perf_counter()
    rows = []
    for changes in (*({"label_weight": factor * weight} for factor in FACTORS), UNDISTURBED, CODE_READ):
        changed = replace(settings, module=settings.module | changes)
        batches = batches_of(data, changed, seed=0)
        with tempfile.TemporaryDirectory() as partial:
            test = train_seed(spec, changed, batches, 0, Path(partial), helpers, ONE_DEVICE, resume=False).test
        rows.append(
            {
                "label_weight": changed.module["label_weight"],
                "disturbed": int(changes is not UNDISTURBED),
                "code_weight": spec.build(changed.module).hparams.code_weight,
                **{name: test[name] for name in SCORES},
                **{f"survives {name}": value["within_class"] for name, value in test["survives"].items()},
            }
        )
    metrics = {
        "experiment": experiment,
        "preset": preset,
        "data": {
            "name": whole.name,
            "source": whole.source,
            "size": settings.size,
            "train": len(batches.train),
            "val": len(batches.val),
            "test": len(batches.test),
            "fingerprint": whole.fingerprint,
        },
        "device": describe_device(),
        "precision": precision(),
        "epochs": settings.epochs,
        "interrupted": False,
        "seconds": round(time.perf_counter() - start, 1),
        "seeds": [0],
        **surroundings(),
    }
    record = Record(folder / f"{experiment}-tradeoff", metrics, rows)
    return write_record(record, asdict(settings), {}, {"tradeoff": plot(record)})


def within_training(data: DataSet, limit: int) -> DataSet:
    """A data set whose test images are the validation cut of another, and its training images some of the others."""
    rows = shuffled_rows(data.train, None)
    cut = round(len(rows) * VALIDATION_SHARE)

    def pick(rows: Tensor) -> dict[str, Tensor]:
        return {name: values[rows] for name, values in data.train.items()}

    return data._replace(train=pick(rows[cut : cut + limit]), test=pick(rows[:cut]))


def kept(experiment: str, folder: Path = PUBLISHED) -> Record:
    """The measurement that is kept for an experiment; an InputError says how to make one."""
    record = read_record(folder / f"{experiment}-tradeoff")
    if record is None:
        raise InputError(
            f"there is no {experiment}-tradeoff in {folder}: run `python -m s18_utils tradeoff {experiment}` first"
        )
    return record


def plot(record: Record) -> Figure:
    """Agreement, reconstruction and what survives against the weight of the label loss."""
    usual = statistics.mode(row["code_weight"] for row in record.history)
    rows = [row for row in record.history if row["disturbed"] and row["code_weight"] == usual]
    weights = [row["label_weight"] for row in rows]
    panels = {
        "share of swaps read as asked": {name: label for name, label in SCORES.items() if name != "mse"},
        "mean squared error": {"mse": "under the true label"},
        "correlation within classes": {name: feature(name) for name in rows[0] if name.startswith("survives ")},
    }
    figure, axes = new_figure(f"{record.title()}: what the label loss buys and costs", columns=3, width=11, height=3.4)
    for axis, (label, lines) in zip(axes[0], panels.items(), strict=True):
        for name, legend in lines.items():
            axis.plot(weights, [row[name] for row in rows], marker="o", label=legend)
        axis.set_xscale("symlog", linthresh=min(filter(None, weights)))
        axis.set_xticks(weights, [f"{weight:g}" for weight in weights])
        axis.minorticks_off()
        style_lines(axis, "weight of the label loss", label)
    return figure


def table(record: Record) -> Table:
    """All trainings, a line each."""
    names = [name for name in record.history[0] if name in SCORES or name.startswith("survives ")]
    header = ["label weight", "disturbed", "code weight", *(SCORES.get(name) or feature(name) for name in names)]
    rows = [
        [f"{row['label_weight']:g}", "yes" if row["disturbed"] else "no", f"{row['code_weight']:g}"]
        + [f"{row[name]:.4f}" for name in names]
        for row in record.history
    ]
    return Table(header, rows)


def feature(name: str) -> str:
    """`survives colour_layout` as it is called in figures and tables."""
    return name.removeprefix("survives ").replace("_", " ")
