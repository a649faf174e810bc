"""Numbers in prose, filled in from records, so that no sentence goes stale.

A mark holds the name of a value, and what stands up to its end is replaced:

    The judge reads <!-- value cvae-mnist: test.swap_agreement .1% -->99.7 %<!-- end --> of the swaps as asked.

A name is `RECORD: PATH FORMAT`. RECORD is that of an experiment or a variant, with `@full` at the end for a preset
other than the one in `figures/` itself; `AFTER - BEFORE` is the difference of two. PATH leads through `metrics.json`,
numbers in it through lists; `9*data.test` is nine times that number. FORMAT is one of Python's, `.3f` if left out; with
`±` after it the standard deviation over seeds is added where there is one, and to a difference its 95 % interval where
both have the same seeds.
`effect up: iou border` is what a choice of the UNets changes in a score, with its 95 % interval.
"""

import re
from collections.abc import Callable
from typing import Any

from s18_utils import records
from s18_utils.errors import InputError
from s18_utils.records import Record, find_published
from s18_utils.report.intervals import confidence_interval, format_interval, gains_by_seed
from s18_utils.unet.effects import FACTORS, estimate_effects, find_combinations

START, END = "<!-- value ", "<!-- end -->"
MARK = re.compile(r"<!-- value ([^>]+?) -->((?:(?!<!-- value ).)*?)<!-- end -->", re.DOTALL)
NAME = re.compile(r"(?P<records>[^:]+): (?:(?P<times>\d+)\*)?(?P<path>[\w.]+)(?: (?P<form>[^\s±]+))?(?P<spread> ?±)?")
EFFECT = re.compile(rf"effect (?P<factor>{'|'.join(FACTORS)}): (?P<score>[\w ]+)")


def fill_values(text: str, lookup: Callable[[str], str]) -> str:
    """A Markdown text with the value of each mark between its start and its end.

    Args:
        text: of a page, or of a notebook's cell.
        lookup: gives the value of a name as text, such as `look_up_value`.

    Raises:
        InputError: a mark without an end; and what `lookup` raises.
    """
    filled = MARK.sub(lambda match: f"{START}{match[1]} -->{lookup(match[1])}{END}", text)
    if len(MARK.findall(text)) != text.count(START):
        raise InputError(f"a mark `{START}… -->` has no end: write {END} after its value")
    return filled


def look_up_value(name: str) -> str:
    """The value of a name, from the published records; an InputError says what is wrong with the name."""
    if match := EFFECT.fullmatch(name):
        effects = estimate_effects(find_combinations(), match["score"])
        [effect] = [each for each in effects if each.factors == (match["factor"],)]
        return typeset(effect.text)
    match = NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{name!r} names no value: write RECORD: PATH FORMAT, as in cvae-mnist: test.psnr .1f")
    found = [get_published(part.strip()) for part in match["records"].split(" - ")]
    values = [follow_path(record, match["path"]) for record in found]
    if not all(isinstance(value, int | float) for value in values):
        if len(values) > 1 or match["form"]:
            raise InputError(f"{match['path']} is no number: leave out the format and the difference in {name!r}")
        return str(values[0])
    times = int(match["times"] or 1)
    value = (values[0] - sum(values[1:])) * times
    form = match["form"] or (".3f" if isinstance(value, float) else ",")
    try:
        text = typeset(f"{value:{form}}")
        if match["spread"] and len(found) == 2:
            after, before = found
            gains = gains_by_seed(before, after, lambda test: find_path({"test": test}, match["path"]))
            if gains:
                text = typeset(format_interval(*confidence_interval([times * gain for gain in gains]), form))
        elif match["spread"] and match["path"].startswith("test."):
            spread = find_path(found[0].metrics, match["path"].replace("test.", "spread.", 1))
            text += typeset(f" ± {times * spread:{form}}") if spread is not None else ""
    except ValueError as error:
        raise InputError(f"{form!r} is no format for a number: write one such as .3f or .1% in {name!r}") from error
    return text


def typeset(text: str) -> str:
    """Numbers with a space before the per cent sign and a minus sign that is one."""
    return text.replace("%", "\N{NO-BREAK SPACE}%").replace("-", "\N{MINUS SIGN}")


def get_published(name: str) -> Record:
    """The published record of that name, `NAME` or `NAME@PRESET`; an InputError if there is none."""
    name, _, preset = name.partition("@")
    record = find_published(name, *([preset] if preset else []))
    if record is None:
        raise InputError(f"{records.PUBLISHED} has no record of {name}: publish it, or take its numbers out")
    return record


def follow_path(record: Record, path: str) -> Any:
    """What stands in a record's metrics at a dotted path; an InputError says what does, if nothing is there."""
    value = find_path(record.metrics, path)
    if value is None or isinstance(value, dict):
        parent = path.rpartition(".")[0]
        group = value or (find_path(record.metrics, parent) if parent else record.metrics)
        there = ", ".join(group) if isinstance(group, dict) else "nothing"
        raise InputError(f"the record of {record.experiment} has no value {path}: choose one of {there}")
    return value


def find_path(values: Any, path: str) -> Any:
    """What stands at a dotted path, whose numbers are places in lists, or None."""
    for part in path.split("."):
        if isinstance(values, list):
            values = {str(place): value for place, value in enumerate(values)}
        values = values.get(part) if isinstance(values, dict) else None
    return values
