"""The README's results and the numbers in its prose, written between their marks from the published records."""

from collections.abc import Sequence

from s18_utils.errors import InputError
from s18_utils.experiments import PRESETS
from s18_utils.records import Record, family_names, find_published
from s18_utils.report.table import Table
from s18_utils.report.tables import compare_records, describe_series
from s18_utils.report.values import fill_values, look_up_value
from s18_utils.unet.effects import find_combinations, tabulate_effects

SECTIONS = ("unet", "effects", "cvae")


def write_results(text: str) -> str:
    """A Markdown text with the current results of each part between their marks, which must be there."""
    for part in SECTIONS:
        start, end = f"<!-- results {part}: written by python -m s18_utils readme -->\n", "\n<!-- end of results -->"
        if start not in text or end not in text.split(start)[1]:
            raise InputError(f"the file has no marks for the results of {part}: put back the README's own")
        before, rest = text.split(start, maxsplit=1)
        text = before + start + summarise(part) + end + rest.split(end, maxsplit=1)[1]
    return fill_values(text, look_up_value)


def summarise(part: str) -> str:
    """The results of a family, or the effects of the UNets' choices, in Markdown."""
    if part == "effects":
        try:
            return tabulate_effects(find_combinations()).markdown()
        except InputError as error:
            return f"Not all combinations are published yet: {error}."
    ways = [find_published(name, preset) for preset in PRESETS for name in family_names(part)]
    return summarise_records([record for record in ways if record])


def summarise_records(kept: Sequence[Record]) -> str:
    """The main columns of a table of records in Markdown, with lines on where its numbers come from."""
    if not kept:
        return "No record is published yet."
    table = compare_records(kept)
    scores = len(table.header) - 3  # without images, parameters and seconds: the lines below say what counts
    lines = Table(table.header[:scores], [row[:scores] for row in table.rows])
    return "\n\n".join([lines.markdown(), *describe_series(kept)])
