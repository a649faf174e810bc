"""What a setting buys and what it costs: conditional VAEs that differ in it, by default in the label loss's weight."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from s18_utils.cvae.variety import find_variety
from s18_utils.experiments import build_settings, get_experiment
from s18_utils.records import Record
from s18_utils.report.style import GREY, LINES, label_lines, new_figure, style_lines
from s18_utils.report.table import Table, format_number


def pick_scores(test: dict) -> dict[str, float | None]:
    """The scores of a record's `test` that trade off against each other, by the names they have in table and plot."""
    swapped = find_variety(test, "swapped")
    return {
        "swap agreement": swapped["agreement"],
        "coverage": swapped["coverage"],
        "recall": swapped["recall"],
        "precision": swapped["precision"],
        "true label": test.get("same_label_agreement"),
        "MSE": test.get("mse"),
        **{
            f"{name.replace('_', ' ')} survives": each["within_class"]
            for name, each in test.get("survives", {}).items()
        },
    }


def tradeoff_table(records: Sequence[Record], setting: str = "label_weight") -> Table:
    """A line for each record, ordered by the setting in which they differ; means over seeds.

    Scores that none of them has, since they were scored before there were such, have no column.
    """
    records = sorted(records, key=lambda record: getattr(record.settings, setting))
    scores = [pick_scores(record.test) for record in records]
    names = [name for name in scores[0] if any(line.get(name) is not None for line in scores)]
    rows = [
        [f"{getattr(record.settings, setting):g}", str(len(record.metrics["seeds"]))]
        + [format_number(line.get(name), decimals=4) for name in names]
        for record, line in zip(records, scores, strict=True)
    ]
    return Table([setting.replace("_", " "), "seeds", *names], rows)


def draw_tradeoff(records: Sequence[Record], setting: str = "label_weight") -> Figure:
    """Agreement and variety, reconstruction, and what survives, against the setting; the block's value is marked.

    A bar spans a standard deviation over seeds each way, where there are several.
    """
    records = sorted(records, key=lambda record: getattr(record.settings, setting))
    values = [getattr(record.settings, setting) for record in records]
    spec = get_experiment(records[0].experiment)
    chosen = getattr(build_settings(spec, records[0].preset), setting)
    seeds = [[pick_scores(test) for test in record.by_seed.values() or [record.test]] for record in records]
    names = list(seeds[0][0])
    panels = {
        "share": [name for name in ("swap agreement", "coverage", "recall", "true label") if name in names],
        "mean squared error, true label": ["MSE"],
        "correlation within classes": [name for name in names if name.endswith("survives")],
    }
    figure, axes = new_figure(
        f"{spec.title}: what the {setting.replace('_', ' ')} buys and costs"
        + ", synthetic data" * records[0].synthetic,
        columns=3,
        width=12,
        height=3.4,
    )
    for axis, (label, shown) in zip(axes[0], panels.items(), strict=True):
        for name, colour in zip(shown, LINES, strict=False):
            each = [[math.nan if test[name] is None else test[name] for test in tests] for tests in seeds]
            spread = [np.std(tests, ddof=1) if len(tests) > 1 else 0.0 for tests in each]
            middle = [np.mean(tests) for tests in each]
            if not all(map(math.isnan, middle)):
                axis.errorbar(
                    values, middle, spread, color=colour, marker="o", markersize=5, capsize=3, label=f"_{name}"
                )
                axis.plot(values, middle, color=colour, label=name.removesuffix(" survives"))
        axis.axvline(chosen, color=GREY, linestyle="--", linewidth=1)
        axis.annotate(
            f"chosen: {chosen:g}",
            (chosen, 1.01),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            color=GREY,
            ha="center",
        )
        if any(value > 0 for value in values):
            smallest = min(value for value in values if value > 0)
            axis.set_xscale("symlog", linthresh=smallest)
            axis.set_xlim(min(values) - 0.2 * smallest, 1.2 * max(values))
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.minorticks_off()
        style_lines(axis, setting.replace("_", " "), label)
        label_lines(axis)
    return figure
