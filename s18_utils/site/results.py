"""Pages of results: tables over all published records, and a page for each record with its scores and pictures."""

import re
import shutil
from pathlib import Path

from s18_utils import records
from s18_utils.cvae.tradeoff import tradeoff_table
from s18_utils.errors import InputError
from s18_utils.records import REPOSITORY, Record, read_record
from s18_utils.report.origin import describe_origin
from s18_utils.report.progress import display_message
from s18_utils.report.table import Table
from s18_utils.report.tables import compare_records, describe_series, list_scores
from s18_utils.settings import flatten
from s18_utils.site.sources import CAPTIONS, png_width
from s18_utils.unet.effects import FOLDER, find_combinations, tabulate_effects

TITLES = {"unet": "UNets on Oxford-IIIT Pet", "cvae": "Conditional VAEs", "classifier": "Frozen CNNs and judges"}


def list_published() -> list[Record]:
    """The published records of experiments and their networks; one that can't be read is said and left out."""
    found = []
    parents = [parent for parent in records.published_folders() if parent.is_dir()]
    for folder in [each for parent in parents for each in sorted(parent.iterdir())]:
        try:
            record = read_record(folder)
            found += [record] if record and describe_origin(record) and record.family in TITLES else []
        except (InputError, KeyError, TypeError) as error:
            display_message(f"The site is built without {folder.name}: {error}", warning=True)
    order = list(TITLES)
    return sorted(found, key=lambda record: order.index(record.family))


def write_results(sources: Path, published: list[Record]) -> list[str]:
    """Writes the page of results and those of the records into a folder of pages; returns the records' pages."""
    names = {record.folder: write_record_page(sources, record) for record in published}
    parts = ["# Results", "Every number is read from a published record, to which the names in the first tables lead."]
    parts += [] if published else ["No record is published yet."]
    for family, title in TITLES.items():
        kept = [record for record in published if record.family == family]
        if not kept:
            continue
        table = compare_records(kept)
        rows = [
            [f"[{row[0]}]({names[record.folder]}.md)", *row[1:]] for record, row in zip(kept, table.rows, strict=True)
        ]
        parts += [f"## {title}", Table(table.header, rows).markdown(), *describe_series(kept)]
        pictures = sorted(records.PUBLISHED.glob("unets_*.png")) if family == "unet" else []
        parts += show_pictures(sources, pictures)
        parts += show_effects(sources) if family == "unet" else []
        for record in kept:
            parts += show_references(sources, record)
            parts += show_tradeoff(sources, record) if family == "cvae" else []
    (sources / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return list(names.values())


def show_effects(sources: Path) -> list[str]:
    """All eight combinations of the UNets' choices and what each choice changes; nothing where some are missing."""
    try:
        eight = find_combinations()
        tables = [compare_records(eight).markdown(), tabulate_effects(eight).markdown()]
    except (InputError, KeyError, TypeError):
        return []
    pictures = show_pictures(sources, sorted((records.PUBLISHED / FOLDER).glob("*.png")))
    return ["### All eight combinations, and what each choice changes", tables[0], *pictures, tables[1]]


def show_references(sources: Path, record: Record) -> list[str]:
    """A record beside those of its experiment's references, as parts of a page; nothing if there are none."""
    try:
        references = records.find_references(record.experiment, record.preset)
        table = compare_records([record, *references.values()])
    except (InputError, KeyError, TypeError) as error:
        display_message(f"The site is built without what {record.experiment} is held against: {error}", warning=True)
        return []
    if not references:
        return []
    rows = [[name, *row[1:]] for name, row in zip([record.label(), *references], table.rows, strict=True)]
    parts = [f"### Held against: {record.label()}", Table(table.header, rows).markdown()]
    for name, reference in references.items():
        pictures = [path for path in [reference.folder / "composite.png"] if path.is_file()]
        parts += [f"Drawn {name}:"] * bool(pictures) + show_pictures(sources, pictures)
    return parts


def show_tradeoff(sources: Path, record: Record) -> list[str]:
    """The trade-off that belongs to a conditional VAE, as parts of a page; nothing if there is none."""
    folder = record.folder.parent / f"{record.experiment}-tradeoff"
    try:
        measured = [each for path in sorted(folder.glob("*/")) if (each := read_record(path))]
        table = tradeoff_table(measured).markdown() if measured else ""
    except (InputError, KeyError, TypeError) as error:
        display_message(f"The site is built without {folder.name}: {error}", warning=True)
        return []
    pictures = show_pictures(sources, sorted(folder.glob("*.png")))
    title = f"### Weights of the label loss: {record.label()}"
    return [title, *pictures, *([table, *describe_series(measured[:1])] if table else [])] if table or pictures else []


def write_record_page(sources: Path, record: Record) -> str:
    """Writes a record's page; returns its name."""
    path = record.folder.relative_to(records.PUBLISHED).as_posix()
    name = "records/" + re.sub(r"[^\w.-]+", "-", path)
    address = f"{REPOSITORY}/tree/main/figures/{path.replace(' ', '%20')}"
    parts = [
        f"# {record.title()}, {record.preset}",
        f"{describe_origin(record)}. [Its files]({address}).",
        *show_pictures(sources, sorted(record.folder.glob("*.png")), "../"),
        "## Scores on the test split",
        list_scores(record.test, record.spread).markdown(),
    ]
    try:
        settings = flatten(record.settings.model_dump(mode="json"))
        rows = [[f"`{setting}`", str(value)] for setting, value in settings.items()]
        parts += ["## Settings", Table(["setting", "value"], rows).markdown()]
    except InputError as error:
        parts += ["## Settings", f"{str(error).partition(': ')[0]}."]
    (sources / "records").mkdir(exist_ok=True)
    (sources / f"{name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return name


def show_pictures(sources: Path, files: list[Path], up: str = "") -> list[str]:
    """Copies pictures among the pages; returns them as Markdown, each with what it shows as text and caption.

    Args:
        sources: the folder of pages.
        files: below the published records.
        up: the way from the page to `sources`.
    """
    parts = []
    for file in files:
        path = Path("figures") / file.relative_to(records.PUBLISHED)
        (sources / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, sources / path)
        name = re.sub(r"^unets_", "", file.stem)
        text = CAPTIONS.get(name, name.replace("_", " ").capitalize())
        width = f"{{width={max(png_width(file.read_bytes()) // 2, 1)}px}}"
        parts += [f"![{text}]({up}{path.as_posix().replace(' ', '%20')}){width}", f"[{text}.]{{.picture-text}}"]
    return parts
