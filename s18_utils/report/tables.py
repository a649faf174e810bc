"""Tables of results and parameters, for notebooks, the terminal and the README."""

import inspect
import textwrap
from collections.abc import Iterable, Sequence

from IPython.display import Markdown
from torch import nn

from s18_utils.records import Record
from s18_utils.report.intervals import confidence_interval, format_interval, gains_by_seed
from s18_utils.report.origin import describe_scored, describe_seeds, describe_share
from s18_utils.report.table import Table, flatten_scores, format_number
from s18_utils.settings import DataSettings, flatten

# Column header: the score's name in `flatten_scores`, by family.
SCORES = {
    "unet": {"mIoU": "mean iou", "Dice": "mean dice", "accuracy": "pixel accuracy"},  # and of each class the IoU
    "cvae": {
        "swap agreement": "swap agreement",
        "coverage": "variety swapped coverage",
        "recall": "variety swapped recall",
        "precision": "variety swapped precision",
        "agreement, true label": "same label agreement",
        "agreement, real images": "real agreement",
        "MSE": "mse",
        "PSNR in dB": "psnr",
        "KL in nats": "kl",
    },
    "classifier": {"accuracy": "accuracy", "loss": "loss"},
}
DECIMALS = {"mse": 4, "psnr": 1, "kl": 1}  # of a score; of all others three


def compare_records(records: Sequence[Record]) -> Table:
    """Records of one family side by side, each with its preset, since not all need have the same one."""
    scores = SCORES[records[0].family if records else "unet"]
    classes = dict.fromkeys(name for record in records for name in record.test.get("iou", ()))
    if classes:
        scores = {"mIoU": "mean iou"} | {f"IoU {name}": f"iou {name}".replace("_", " ") for name in classes} | scores
    header = ["experiment", "preset", *scores, "training images", "parameters", "seconds a seed"]
    rows = []
    for record in records:
        data = record.data
        rows.append(
            [
                record.label(),
                record.preset,
                *(format_score(record, name, DECIMALS.get(name, 3)) for name in scores.values()),
                f"{data['train']:,} {'synthetic' if record.synthetic else data['title']}",
                f"{record.metrics['parameters']:,}",
                f"{record.metrics['seconds'] / len(record.metrics['seeds']):.0f}",
            ]
        )
    return Table(header, rows)


def compare_settings(records: Sequence[Record]) -> Table:
    """The settings in which records differ, a line each."""
    settings = [flatten(record.settings.model_dump(mode="json")) for record in records]
    names = dict.fromkeys(name for values in settings for name in values)
    different = [name for name in names if len({str(values.get(name)) for values in settings}) > 1]
    rows = [[name, *(str(values.get(name, "")) for values in settings)] for name in different if name != "source"]
    return Table(["setting", *(record.label(records) for record in records)], rows)


def explain_settings(settings: DataSettings, names: Sequence[str]) -> Table:
    """Some settings of an experiment: what each is, and its value."""
    fields = type(settings).model_fields
    rows = [[fields[name].description, name, str(getattr(settings, name))] for name in names]
    return Table(["what it is", "setting", "value"], rows)


def contrast_scores(before: Record, after: Record) -> Table:
    """Two records' test scores and what the second gains on the first.

    Where both have the same seeds, the gain comes with the 95 % interval of its mean over them. Not the test loss: the
    two need not have the same one.
    """
    names = [name for name in flatten_scores(before.test) if name != "loss" and name in flatten_scores(after.test)]
    rows = []
    for name in names:
        first, second = (flatten_scores(record.test)[name] for record in (before, after))
        gain = "" if None in (first, second) else format_number(second - first, sign="+")
        if by_seed := gains_by_seed(before, after, lambda test, name=name: flatten_scores(test).get(name)):
            gain = format_interval(*confidence_interval(by_seed))
        rows.append([name, format_score(before, name), format_score(after, name), gain])
    return Table(["test score", before.label([after]), after.label([before]), "difference"], rows)


def list_scores(test: dict, spread: dict | None = None) -> Table:
    """Test scores, one a line; with their `spread` as mean ± standard deviation over seeds."""
    deviations = flatten_scores(spread or {})
    rows = [
        [name, format_number(value, deviations.get(name), decimals=4)] for name, value in flatten_scores(test).items()
    ]
    return Table(["test score", "value"], rows)


def list_survival(record: Record) -> Table:
    """What of the input outlives a swap: correlations between inputs and drawings, a line for each feature."""
    rows = [
        [name.replace("_", " "), *(format_number(value) for value in parts.values())]
        for name, parts in record.test["survives"].items()
    ]
    return Table(["feature", "correlation", "shuffled", "within class", "shuffled within class"], rows)


def describe_series(records: Iterable[Record]) -> list[str]:
    """Sentences on data, preset, hardware and seeds, one for records that share them."""
    sentences = []
    for record in records:
        metrics, data = record.metrics, record.data
        sentences.append(
            f"{describe_share(data)}: {data['train']:,} to train on, {data['val']:,} to choose the epoch by; "
            f"{describe_scored(record)}; preset `{record.preset}` ({data['size']} px, {metrics['epochs']} epochs), "
            f"{describe_seeds(metrics['seeds'])}, {metrics['device']}, {metrics['precision']}."
        )
    return list(dict.fromkeys(sentences))


def format_score(record: Record, name: str, decimals: int = 3) -> str:
    """One of a record's test scores, named as by `flatten_scores`; with several seeds as mean ± standard deviation."""
    test, spread = flatten_scores(record.test), flatten_scores(record.spread)
    return format_number(test.get(name), spread.get(name), decimals)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def list_parameters(parts: dict[str, nn.Module]) -> Table:
    """The parameters of each of a network's parts, and of all together."""
    rows = [[name, f"{count_parameters(part):,}"] for name, part in parts.items()]
    total = sum(count_parameters(part) for part in parts.values())
    return Table(["part", "parameters"], [*rows, ["total", f"{total:,}"]])


def show_source(*objects) -> Markdown:
    """The code of functions or classes, to show in a notebook."""
    return Markdown("```python\n" + "\n\n".join(textwrap.dedent(inspect.getsource(thing)) for thing in objects) + "```")
