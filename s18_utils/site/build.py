"""Builds the site: the results, the notebooks as they were committed, the pages of `docs/`, and the playground."""

import os
import shutil
import tempfile
from pathlib import Path

from s18_utils import notebooks, records
from s18_utils.errors import InputError, local_path, make_folder
from s18_utils.experiments import EXPERIMENTS, PRESETS
from s18_utils.play.page import BODY, FOLDERS, write_players
from s18_utils.records import Record
from s18_utils.report.progress import display_message
from s18_utils.report.readme import summarise_records
from s18_utils.site.generator import find_katex, render_pages
from s18_utils.site.results import TITLES, list_published, show_pictures, write_results
from s18_utils.site.sources import require_notebooks, write_docs, write_notebook

ROOT = notebooks.NOTEBOOKS.parent
MARK = ".s18-site"  # in every folder that this command made: a list of what it put there
# The pages of `docs/` in the menu's order, before any others.
DOCS = ("experiments", "data", "definitions", "speed", "faults", "assignment")
FIRST_PICTURES = ("cvae-mnist/composite.png", "cvae-cifar10/composite.png", "unets_side_by_side.png")


def build_site(out: Path) -> list[str]:
    """Builds the site into a folder, in place of an earlier site there.

    Notebooks are shown as they were committed, not executed. Every link is relative, and nothing is fetched from
    elsewhere by whoever reads it. What can't be built, for want of npm or of a record, is said and left out.

    Args:
        out: the folder; it is made if it isn't there.

    Returns:
        The experiments that can be played with: those whose published record keeps its weights.

    Raises:
        InputError: no notebooks around the package, a folder that can't be written to, or one that holds something
            else than a site.
    """
    require_notebooks(notebooks.NOTEBOOKS)
    check_place(local_path(out))
    with tempfile.TemporaryDirectory() as name:
        sources, pages = Path(name) / "sources", Path(name) / "pages"
        sources.mkdir()
        published = list_published()
        players = try_playground(sources)
        files = [notebooks.NOTEBOOKS / f"{each.notebook}.ipynb" for each in EXPERIMENTS.values() if each.notebook]
        contents = {
            "Notebooks": [page for file in files if (page := write_notebook(file, ROOT, sources))],
            "Play": ["playground"] if players else [],
            "Results": ["results", *write_results(sources, published)],
            "Guide": sort_docs(write_docs(ROOT, sources)),
        }
        write_index(sources, contents, published)
        served = [folder for folder in FOLDERS if (sources / folder).is_dir()]
        for warning in render_pages(sources, pages, served, katex=find_katex()):
            display_message(warning, warning=True)
        for page in contents["Notebooks"]:
            shutil.copy(notebooks.NOTEBOOKS.parent / f"{page}.ipynb", pages / "notebooks")
        (pages / ".nojekyll").touch()  # GitHub would leave out folders that begin with an underscore
        move_pages(pages, make_folder(out, "choose another with --out"))
    return players


def check_place(out: Path) -> None:
    """Raises an InputError unless `out` can take a site without losing anything that is no site's."""
    remedy = "choose another with --out"
    if out.exists() and not (out / MARK).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} is there and is no site of this command: move it away, or {remedy}")
    make_folder(out.parent, remedy)


def move_pages(pages: Path, out: Path) -> None:
    """Puts a site's files into a folder in place of those of the site before; what else is there stays.

    Raises:
        InputError: a file that is no site's stands where one of the site's has to be.
    """
    new = {path.relative_to(pages).as_posix() for path in pages.rglob("*") if path.is_file()}
    mark = out / MARK
    old = set(mark.read_text(encoding="utf-8").splitlines()) if mark.is_file() else set()
    foreign = sorted(out / name for name in new - old if os.path.lexists(out / name))
    folders = {parent for name in new - old for parent in (out / name).parents if out in parent.parents}
    foreign += sorted(parent for parent in folders if os.path.lexists(parent) and not parent.is_dir())
    if foreign:
        raise InputError(f"{foreign[0]} is there and is of no site: move it away, or choose another with --out")
    mark.write_text(
        "\n".join(sorted(old | new)) + "\n", encoding="utf-8"
    )  # cut short, the next one knows what is whose
    for name in sorted(old - new):
        path = out / name
        if ".." not in Path(name).parts and path.is_file():
            path.unlink()
            remove_empty(path.parent, out)
    for name in sorted(new):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(pages / name, out / name)
    mark.write_text("\n".join(sorted(new)) + "\n", encoding="utf-8")


def remove_empty(folder: Path, top: Path) -> None:
    """Removes a folder and those around it, up to `top`, as long as nothing is left in them."""
    while folder != top and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def try_playground(sources: Path) -> list[str]:
    """The playground's players; none, with a message, where npm can't bring its runtime or a record can't be used."""
    try:
        if players := write_players(sources):
            page = "# Playground\n\n" + BODY.read_text(encoding="utf-8")
            (sources / "playground.md").write_text(page, encoding="utf-8")
        else:
            display_message("The site is built without the playground: no published record keeps its weights", True)
        return players
    except InputError as error:
        for folder in FOLDERS:
            shutil.rmtree(sources / folder, ignore_errors=True)
        display_message(f"The site is built without the playground: {error}", warning=True)
        return []


def sort_docs(names: list[str]) -> list[str]:
    """The pages of `docs/` in the menu's order."""
    first = [f"docs/{name}" for name in DOCS]
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def write_index(sources: Path, contents: dict[str, list[str]], published: list[Record]) -> None:
    """Writes the first page: what the site is, the notebooks, results with pictures, and the menu of all pages."""
    notebook_pages = {f"notebooks/{each.notebook}": each.title for each in EXPERIMENTS.values()}
    links = [
        f"{number}. [{notebook_pages[page]}]({page}.ipynb)" for number, page in enumerate(contents["Notebooks"], 1)
    ]
    play = " Or [play with the networks](playground.md) in this browser: nothing is sent anywhere."
    parts = [
        "# UNets and conditional VAEs, from scratch, measured",
        "Four notebooks train UNets on photographs of pets, each with another choice of down-sampling, up-sampling and "
        "loss, and compare them on the official test split. Two more train conditional VAEs, ask them to draw an image "
        "under the wrong label, and have every such swap read by judges that took no part in training."
        + (play if contents["Play"] else ""),
    ]
    pictures = [path for name in FIRST_PICTURES if (path := records.PUBLISHED / name).is_file()]
    parts += show_pictures(sources, pictures[:1]) + ["## Notebooks", "\n".join(links)]
    for family in ("unet", "cvae"):
        kept = [record for record in published if record.family == family and record.folder.name in EXPERIMENTS]
        kept.sort(key=lambda record: PRESETS.index(record.preset))
        parts += [f"## {TITLES[family]}", summarise_records(kept)]
        parts += show_pictures(
            sources, [path for path in pictures[1:] if path.name.startswith("unets") == (family == "unet")]
        )
    parts.append("All scores, settings and pictures stand on the page of [results](results.md).")
    for caption, pages in contents.items():
        listed = [page for page in pages if not page.startswith("records/")]
        if listed:
            parts.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(listed) + "\n```")
    (sources / "index.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    with open(sources / "results.md", "a", encoding="utf-8") as file:
        inner = [page for page in contents["Results"] if page != "results"]
        file.write("\n```{toctree}\n:hidden:\n\n" + "\n".join(inner) + "\n```\n" if inner else "")
