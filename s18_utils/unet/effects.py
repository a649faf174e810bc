"""What down-sampling, up-sampling and the loss change in a score: a 2×2×2 design, blocked by seed.

With every combination of the three choices trained with the same seeds, the effect of a choice in one seed is the mean
score of the four networks with its second option less the mean of the four with its first:

    E_s = ¼ Σ_c sign(c) · score(c, s),   sign(c) = ±1

An *interaction* of two or three choices takes the product of their signs: half of how much the effect of the one
differs between the options of the other. What a seed does to all eight networks cancels in E_s, so the seeds are
independent repetitions of each effect, and give it a 95 % interval (see `report.intervals`; Box, Hunter & Hunter 2005,
*Statistics for Experimenters*, ch. 5). Of twenty effects that are none, one will leave out 0 by chance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

from matplotlib.figure import Figure

import s18_utils.records
from s18_utils.errors import InputError
from s18_utils.records import Record, family_names, read_record
from s18_utils.report.intervals import confidence_interval, format_interval
from s18_utils.report.style import BLUE, GREY, new_figure, style_lines
from s18_utils.report.table import Table, flatten_scores

# The setting of each choice: its options, the first and the second, in words.
FACTORS = {
    "down": {"maxpool": "max pooling", "strided": "strided convolution"},
    "up": {"transpose": "transposed convolution", "bilinear": "bilinear up-sampling"},
    "loss": {"ce": "cross-entropy", "dice": "Dice loss"},
}
# The combinations that are no experiment of their own, as variants of those that are, and the folder of their records.
OTHERS = (
    ("unet-maxpool-transpose-bce", {"up": "bilinear"}),
    ("unet-maxpool-transpose-dice", {"up": "bilinear"}),
    ("unet-strided-transpose-bce", {"up": "bilinear"}),
    ("unet-strided-transpose-bce", {"loss": "dice"}),
)
FOLDER = "unet-effects"


@dataclass(frozen=True)
class Effect:
    """What one choice, or the interaction of several, changes in a score.

    Attributes:
        factors: names in `FACTORS`; several for an interaction.
        score: such as `mean_iou` or `iou border`.
        estimate: the mean over seeds.
        low, high: its 95 % confidence interval.
        by_seed: the effect in each seed.
    """

    factors: tuple[str, ...]
    score: str
    estimate: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    @property
    def name(self) -> str:
        """`loss: cross-entropy → Dice loss`, or `down × up`."""
        if len(self.factors) > 1:
            return " × ".join(self.factors)
        return f"{self.factors[0]}: {' → '.join(FACTORS[self.factors[0]].values())}"

    @property
    def text(self) -> str:
        """The estimate and its interval."""
        return format_interval(self.estimate, self.low, self.high, "+.4f")

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def find_combinations() -> list[Record]:
    """The published records of the eight combinations, or as many as there are, at the preset of which there are the
    most."""
    paths = [folder / name for folder in s18_utils.records.published_folders() for name in family_names("unet")]
    found: dict[str, dict] = {}
    for path in [*paths, *(s18_utils.records.PUBLISHED / FOLDER).glob("*/")]:
        record = read_record(path)
        if record and set(record.changes) <= set(FACTORS):
            cell = tuple(getattr(record.settings, name) for name in FACTORS)
            found.setdefault(record.preset, {}).setdefault(cell, record)
    return list(max(found.values(), key=len, default={}).values())


def estimate_effects(records: Sequence[Record], score: str = "mean_iou") -> list[Effect]:
    """Main effects, then interactions, of the three choices on a test score.

    Args:
        records: the eight combinations, in any order, alike in all other settings.
        score: a key of the records' `test`; of a score by class with the class, `iou border`.

    Raises:
        InputError: combinations or seeds that are missing, or records that can't be compared.
    """
    cells = arrange_scores(records, score)
    seeds = sorted(next(iter(cells.values())))
    first = [list(options)[0] for options in FACTORS.values()]
    effects = []
    for count in (1, 2, 3):
        for chosen in combinations(range(3), count):
            by_seed = tuple(
                sum(math.prod(-1 if cell[i] == first[i] else 1 for i in chosen) * cells[cell][seed] for cell in cells)
                / 4
                for seed in seeds
            )
            factors = tuple(list(FACTORS)[i] for i in chosen)
            effects.append(Effect(factors, score, *confidence_interval(by_seed), by_seed))
    return effects


def arrange_scores(records: Sequence[Record], score: str) -> dict[tuple[str, ...], dict[int, float]]:
    """The score of each combination by seed; an InputError says what is missing or does not fit."""
    cells = {}
    for record in records:
        cell = tuple(getattr(record.settings, name) for name in FACTORS)
        if cell in cells:
            raise InputError(f"there are two records of {describe_cell(cell)}: pass one of them")
        name = score.replace("_", " ")
        cells[cell] = {seed: flatten_scores(test).get(name) for seed, test in record.by_seed.items()}
    lacking = [describe_cell(cell) for cell in product(*FACTORS.values()) if cell not in cells]
    if lacking:
        raise InputError(f"effects need all eight combinations, these are missing: {'; '.join(lacking)}")
    rest = [
        record.settings.model_dump(exclude={*FACTORS, "source"}) | {"data": record.data["fingerprint"]}
        for record in records
    ]
    differing = [name for name in rest[0] if any(values[name] != rest[0][name] for values in rest)]
    if differing:
        raise InputError(f"the records differ in {', '.join(differing)} too: train all eight alike")
    seeds = sorted({seed for scores in cells.values() for seed in scores})
    gaps = [
        f"{describe_cell(cell)} lacks seed {', '.join(map(str, missing))}"
        for cell, scores in cells.items()
        if (missing := [seed for seed in seeds if scores.get(seed) is None])
    ]
    if gaps or len(seeds) < 2:
        raise InputError(
            f"effects need the same two or more seeds of all eight: {'; '.join(gaps) or 'train more seeds'}"
        )
    return {cell: cells[cell] for cell in product(*FACTORS.values())}


def describe_cell(cell: Sequence[str]) -> str:
    return " + ".join(FACTORS[name][option] for name, option in zip(FACTORS, cell, strict=True))


def list_ious(records: Sequence[Record]) -> list[str]:
    """The scores that effects are shown for: mean IoU and that of each class."""
    return ["mean_iou", *(f"iou {name}" for record in records[:1] for name in record.test["iou"])]


def title_score(score: str) -> str:
    return score.replace("_", " ").replace("iou", "IoU")


def tabulate_effects(records: Sequence[Record]) -> Table:
    """Effects with their 95 % intervals, a line each, on several scores; `*` where the interval leaves out 0."""
    scores = list_ious(records)
    columns = [estimate_effects(records, score) for score in scores]
    rows = [
        [line[0].name, *(f"{effect.text}{' *' if effect.clear else ''}" for effect in line)]
        for line in zip(*columns, strict=True)
    ]
    return Table(["what changes", *map(title_score, scores)], rows)


def draw_effects(records: Sequence[Record]) -> Figure:
    """Effects with their 95 % intervals, a panel a score on one scale; hollow where the interval holds 0."""
    scores = list_ious(records)
    columns = [estimate_effects(records, score) for score in scores]
    title = f"What each choice changes, over {len(columns[0][0].by_seed)} seeds: estimate and 95 % interval"
    title += ", synthetic data" if any(record.synthetic for record in records) else ""
    size = {"width": 3 + 1.6 * len(scores), "height": 3.6}
    figure, [axes] = new_figure(title, columns=len(scores), sharex=True, sharey=True, **size)
    for axis, score, effects in zip(axes, scores, columns, strict=True):
        for place, effect in enumerate(effects):
            error = [[effect.estimate - effect.low], [effect.high - effect.estimate]]
            face = {} if effect.clear else {"markerfacecolor": "none"}
            axis.errorbar(effect.estimate, place, xerr=error, fmt="o", color=BLUE, capsize=3, markersize=5, **face)
        axis.axvline(0, color=GREY, linewidth=1)
        style_lines(axis, "", "")
        axis.set_title(title_score(score), fontsize=10)
        axis.set_ylim(len(effects) - 0.5, -0.5)
    axes[0].set_yticks(range(len(effects)), [effect.name.replace(": ", ":\n") for effect in effects])
    return figure
