"""The tables of results and parameters, in notebooks, the terminal and the README."""

import inspect
import math
import statistics

from IPython.display import Markdown
from lightning.pytorch.utilities.model_summary import get_human_readable_count
from torch import nn

from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS, get_experiment
from s18_utils.plots import share
from s18_utils.records import PUBLISHED, Record, find_record, read_record
from s18_utils.table import Table

# The parameter tables that the assignment printed, by row, for (bilinear, max pooling); the seed left one out.
SEED_PARAMETERS = {
    (True, True): "38.8 K|221 K|885 K|3.5 M|4.7 M|5.9 M|1.5 M|369 K|110 K|195|17.3 M",
    (False, True): "38.8 K|221 K|885 K|3.5 M|14.2 M|9.2 M|2.3 M|574 K|143 K|195|31.0 M",
    (False, False): "38.8 K|369 K|1.5 M|5.9 M|23.6 M|9.2 M|2.3 M|574 K|143 K|195|43.6 M",
}
# The validation losses that the assignment printed; what kind they are, and our history's column of that kind.
SEED_LOSSES = {
    "unet-maxpool-transpose-bce": (0.265, "cross-entropy", "val_loss"),
    "unet-maxpool-transpose-dice": (0.190, "pooled Dice", "val_pooled_dice_loss"),
    "unet-strided-transpose-bce": (0.406, "cross-entropy", "val_loss"),
    "unet-strided-upsample-dice": (0.173, "pooled Dice", "val_pooled_dice_loss"),
}
# Encoder, decoder and pretrained CNN.
SEED_CVAE_PARAMETERS = {"mnist": ("154 K", "774 K", "593 K"), "cifar10": ("4.6 M", "8.5 M", "2.0 M")}
# What a choice changes, as a sum of scores with these signs. No two of the four runs differ in up-sampling alone.
EFFECTS = {
    "loss: cross-entropy → Dice (2 − 1)": (-1, 1, 0, 0),
    "down: max pooling → strided convolution (3 − 1)": (-1, 0, 1, 0),
    "up and down: transposed, max pooling → bilinear, strided (4 − 2)": (0, -1, 0, 1),
    "up and loss: transposed, cross-entropy → bilinear, Dice (4 − 3)": (0, 0, -1, 1),
    "up: transposed → bilinear, if the three simply add up (4 − 3 − 2 + 1)": (1, -1, -1, 1),
}

# Column header: the score's name in `flatten`, by family.
SCORES = {
    "unet": {
        "mIoU": "mean iou",
        "IoU pet": "iou pet",
        "IoU background": "iou background",
        "IoU border": "iou border",
        "Dice": "mean dice",
        "accuracy": "pixel accuracy",
        "test loss": "loss",
        "pooled Dice loss": "seed style dice loss",
    },
    "cvae": {
        "swap agreement": "swap agreement",
        "blurred": "swap agreement blurred",
        "under the true label": "same label agreement",
        "MSE": "mse",
        "PSNR in dB": "psnr",
        "KL in nats": "kl",
        "bits per dimension": "bits per dim",
        "frozen CNN": "classifier accuracy",
        "judge": "judge accuracy",
    },
}


def comparison(preset: str, out: str | None = None, family: str = "unet") -> Table:
    """The experiments of a family side by side: each one's record of that preset, and its published one if another."""
    header = ["experiment", "preset", "training images", *SCORES[family], "parameters", "seconds"]
    rows = []
    for experiment in EXPERIMENTS.values():
        if experiment.family != family:
            continue
        found = (find_record(experiment.name, preset, out), read_record(PUBLISHED / experiment.name))
        kept = {record.folder: record for record in found if record}
        rows += map(score_row, kept.values()) if kept else [[experiment.name, "not run yet"] + [""] * (len(header) - 2)]
    return Table(header, rows)


def published_results(family: str) -> str:
    """The README's result table of a family in Markdown, with lines on where its numbers come from."""
    names = [row.name for row in EXPERIMENTS.values() if row.family == family]
    kept = [record for name in names if (record := read_record(PUBLISHED / name))]
    table = Table(["experiment", *SCORES[family]], [[row[0], *row[3:-2]] for row in map(score_row, kept)])
    parts = [table]
    if family == "unet":
        parts += [
            "Validation loss at the kept epochs, in the form that the assignment printed:",
            against_assignment(kept),
        ]
        parts += ["What each choice changed in these scores (numbers of the notebooks):", effects(kept)]
    parts += dict.fromkeys(origin(record) for record in kept)
    return "\n\n".join(part.markdown() if isinstance(part, Table) else part for part in parts)


def insert_results(text: str) -> str:
    """A Markdown text with the current results of each family between their marks."""
    for family in SCORES:
        start, end = f"<!-- results {family}: written by python -m s18_utils readme -->\n", "\n<!-- end of results -->"
        if start not in text or end not in text.split(start)[1]:
            raise InputError(f"the file has no marks for the results of {family}: put back the README's own")
        before, rest = text.split(start, maxsplit=1)
        text = before + start + published_results(family) + end + rest.split(end, maxsplit=1)[1]
    return text


def origin(record: Record) -> str:
    """A sentence on data, preset, hardware and seeds, alike for the records of one series."""
    metrics, data = record.metrics, record.metrics["data"]
    return (
        f"{share(record)}: {data['train']:,} to train on, {data['val']:,} to choose the epoch by; "
        f"{data['test']:,} test images; preset `{metrics['preset']}` ({data['size']} px, {metrics['epochs']} epochs), "
        f"seeds {', '.join(map(str, metrics['seeds']))}, {metrics['device']}, {metrics['precision']}."
    )


def against_assignment(kept: list[Record]) -> Table:
    """Validation losses of UNets at the chosen epochs beside those that the assignment printed, in the same form."""
    rows = []
    for record in kept:
        theirs, form, column = SEED_LOSSES[record.metrics["experiment"]]
        ours = [row[column] for row in chosen_epochs(record)]
        deviation = statistics.stdev(ours) if len(ours) > 1 else None
        rows.append([record.metrics["experiment"], form, show(statistics.fmean(ours), deviation), f"{theirs:.3f}"])
    return Table(["experiment", "loss", "validation", "the assignment"], rows)


def chosen_epochs(record: Record) -> list[dict]:
    """For every seed of a UNet's record, the row of its history whose weights were kept."""
    seeds = dict.fromkeys(row["seed"] for row in record.history)
    return [
        max((row for row in record.history if row["seed"] == seed), key=lambda row: row["val_mean_iou"])
        for seed in seeds
    ]


def effects(kept: list[Record]) -> Table:
    """What each choice changed in the scores of the four UNets, between records of one series.

    With several seeds a difference comes with the standard deviation that it would have between single runs. Empty
    where a run of the comparison is missing or was made at another preset or with other data.
    """
    by_name = {record.metrics["experiment"]: record for record in kept}
    runs = [by_name.get(name) for name in SEED_LOSSES]
    columns = dict(list(SCORES["unet"].items())[:6])  # each run has losses of its own
    rows = []
    for change, signs in EFFECTS.items():
        terms = [(sign, run) for sign, run in zip(signs, runs, strict=True) if sign]
        if all(run for _, run in terms) and len({series(run) for _, run in terms}) == 1:
            rows.append([change, *(difference(terms, name) for name in columns.values())])
    return Table(["what changes", *columns], rows)


def series(record: Record) -> tuple[str, str]:
    """What records must share for their scores to be compared."""
    return record.metrics["preset"], record.metrics["data"]["fingerprint"]


def difference(terms: list[tuple[int, Record]], name: str) -> str:
    """A sum of one score of several records with signs, and its deviation where all of them have one."""
    value = sum(sign * flatten(record.metrics["test"])[name] for sign, record in terms)
    deviations = [flatten(record.metrics["spread"]).get(name) for _, record in terms]
    return show(value, None if None in deviations else math.hypot(*deviations), sign="+")


def contrast(before: str, after: str, preset: str, out: str | None = None) -> Table:
    """Two experiments' test scores and what the second gains on the first; those not run yet are left empty.

    Not the test loss: the experiments need not have the same one.
    """
    found = [find_record(name, preset, out) for name in (before, after)]
    names = (
        [name for name in flatten(next(filter(None, found)).metrics["test"]) if name != "loss"] if any(found) else []
    )
    rows = []
    for name in names:
        pair = [score(record, name) if record else "not run yet" for record in found]
        rows.append([name, *pair, difference(list(zip((-1, 1), found, strict=True)), name) if all(found) else ""])
    return Table(["test score", before, after, "difference"], rows)


def score_row(record: Record) -> list[str]:
    """A record as a row of `comparison`."""
    metrics = record.metrics
    family = get_experiment(metrics["experiment"]).family
    decimals = 4 if family == "cvae" else 3  # the last swaps are the ones to tell apart
    return [
        metrics["experiment"],
        metrics["preset"],
        f"{metrics['data']['train']:,} {'synthetic' if record.synthetic else metrics['data']['name']}",
        *(score(record, name, decimals) for name in SCORES[family].values()),
        f"{metrics['parameters']:,}",
        f"{metrics['seconds']:.0f}",
    ]


def score(record: Record, name: str, decimals: int = 3) -> str:
    """One of a record's test scores, named as by `flatten`; with several seeds as mean ± standard deviation."""
    test, spread = (flatten(record.metrics[part]) for part in ("test", "spread"))
    return show(test[name], spread.get(name), decimals)


def show(value: float, deviation: float | None = None, decimals: int = 3, sign: str = "") -> str:
    """A number, with its standard deviation if there is one; `sign="+"` for a difference."""
    mean = f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"  # never a zero below zero
    return mean if deviation is None else f"{mean} ± {deviation:.{decimals}f}"


def scores(test: dict, spread: dict | None = None) -> Table:
    """A record's test scores, one a line; with its `spread` as mean ± standard deviation over seeds."""
    deviations = flatten(spread or {})
    rows = [[name, show(value, deviations.get(name), decimals=4)] for name, value in flatten(test).items()]
    return Table(["test score", "value"], rows)


def flatten(test: dict) -> dict[str, float]:
    """Scores by a name to read: `iou {pet: …}` becomes `iou pet`; lists, such as the swap matrix, are left out."""
    flat = {}
    for name, value in test.items():
        if isinstance(value, dict):
            flat |= {f"{name} {key}".replace("_", " "): part for key, part in flatten(value).items()}
        elif not isinstance(value, list):
            flat[name.replace("_", " ")] = value
    return flat


def parameters(module: nn.Module, bilinear: bool, pool: bool) -> Table:
    """Parameters of each part of a UNet beside the assignment's table, where it printed one for this combination."""
    seed = SEED_PARAMETERS.get((bilinear, pool), "").split("|")
    parts = [(name, count_parameters(part)) for name, part in module.named_children()]
    parts.append(("total", count_parameters(module)))
    printed = seed if len(seed) == len(parts) else ["not printed"] * len(parts)
    rows = [
        [name, f"{count:,}", get_human_readable_count(count).strip(), theirs]
        for (name, count), theirs in zip(parts, printed, strict=True)
    ]
    return Table(["part", "parameters", "short", "assignment"], rows)


def cvae_parameters(module: nn.Module, data: str) -> Table:
    """Parameters of a conditional VAE's parts beside those that the assignment printed for `mnist` or `cifar10`."""
    parts = {"encoder": module.vae.encoder, "decoder": module.vae.decoder, "frozen CNN": module.frozen}
    rows = [
        [name, f"{count_parameters(part):,}", theirs]
        for (name, part), theirs in zip(parts.items(), SEED_CVAE_PARAMETERS[data], strict=True)
    ]
    return Table(["part", "parameters", "assignment"], rows)


def source(*objects) -> Markdown:
    """The code of functions or classes, to show in a notebook."""
    return Markdown("```python\n" + "\n\n".join(inspect.getsource(thing) for thing in objects) + "```")


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
