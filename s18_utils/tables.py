"""The tables of results and parameters, in notebooks, the terminal and the README."""

import inspect

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
# Encoder, decoder and pretrained CNN.
SEED_CVAE_PARAMETERS = {"mnist": ("154 K", "774 K", "593 K"), "cifar10": ("4.6 M", "8.5 M", "2.0 M")}


# Column header: where a record has the score, by family.
SCORES = {
    "unet": {
        "mIoU": ("mean_iou",),
        "IoU pet": ("iou", "pet"),
        "IoU background": ("iou", "background"),
        "IoU border": ("iou", "border"),
        "Dice": ("mean_dice",),
        "accuracy": ("pixel_accuracy",),
        "test loss": ("loss",),
        "pooled Dice loss": ("seed_style_dice_loss",),
    },
    "cvae": {
        "swap agreement": ("swap_agreement",),
        "blurred": ("swap_agreement_blurred",),
        "under the true label": ("same_label_agreement",),
        "MSE": ("mse",),
        "PSNR in dB": ("psnr",),
        "KL in nats": ("kl",),
        "bits per dimension": ("bits_per_dim",),
        "frozen CNN": ("classifier_accuracy",),
        "judge": ("judge_accuracy",),
    },
}


def comparison(preset: str, out: str | None = None, family: str = "unet") -> Table:
    """The experiments of a family side by side: each one's record of that preset, and its published one if another."""
    header = ["experiment", "preset", "training images", *SCORES[family], "parameters", "seconds"]
    rows = []
    for experiment in EXPERIMENTS.values():
        if experiment.family != family:
            continue
        record, published = find_record(experiment.name, preset, out), read_record(PUBLISHED / experiment.name)
        rows.append(score_row(record) if record else [experiment.name, "not run yet"] + [""] * (len(header) - 2))
        if published and (record is None or record.folder != published.folder):
            rows.append(score_row(published))
    return Table(header, rows)


def published_results(family: str) -> str:
    """The README's result table of a family in Markdown, with lines on where its numbers come from."""
    names = [row.name for row in EXPERIMENTS.values() if row.family == family]
    kept = [record for name in names if (record := read_record(PUBLISHED / name))]
    table = Table(["experiment", *SCORES[family]], [[row[0], *row[3:-2]] for row in map(score_row, kept)])
    return "\n\n".join([table.markdown(), *dict.fromkeys(origin(record) for record in kept)])


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


def contrast(before: str, after: str, preset: str, out: str | None = None) -> Table:
    """Two experiments' test scores and what the second gains on the first; those not run yet are left empty.

    Not the test loss: the experiments need not have the same one.
    """
    found = [find_record(name, preset, out) for name in (before, after)]
    kept = [flatten(record.metrics["test"]) if record else {} for record in found]
    names = [name for name in next(filter(None, kept), {}) if name != "loss"]
    rows = []
    for name in names:
        pair = [scores.get(name) for scores in kept]
        difference = "" if None in pair else f"{pair[1] - pair[0]:+.3f}"
        rows.append([name, *("not run yet" if value is None else f"{value:.3f}" for value in pair), difference])
    return Table(["test score", before, after, "difference"], rows)


def score_row(record: Record) -> list[str]:
    """A record as a row of `comparison`; with several seeds as mean ± standard deviation."""
    metrics = record.metrics
    test, spread = metrics["test"], metrics["spread"]
    family = get_experiment(metrics["experiment"]).family
    decimals = 4 if family == "cvae" else 3  # the last swaps are the ones to tell apart

    def show(*keys: str) -> str:
        value, deviation = test, spread
        for key in keys:
            value, deviation = value[key], deviation.get(key, {})
        mean = f"{value:.{decimals}f}"
        return mean if deviation == {} else f"{mean} ± {deviation:.{decimals}f}"

    return [
        metrics["experiment"],
        metrics["preset"],
        f"{metrics['data']['train']:,} {'synthetic' if record.synthetic else metrics['data']['name']}",
        *(show(*keys) for keys in SCORES[family].values()),
        f"{metrics['parameters']:,}",
        f"{metrics['seconds']:.0f}",
    ]


def scores(test: dict) -> Table:
    """A record's test scores, one a line."""
    return Table(["test score", "value"], [[name, f"{value:.4f}"] for name, value in flatten(test).items()])


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
