"""Builds the site: the results, the notebooks as they were committed, the pages of `docs/`, and the playground."""

import re
import shutil
import tempfile
from pathlib import Path

import nbformat

from s18_utils import notebooks, records
from s18_utils.errors import InputError, make_folder
from s18_utils.experiments import EXPERIMENTS
from s18_utils.report.progress import display_message
from s18_utils.report.readme import FAMILIES, published_results
from s18_utils.site.generator import REPOSITORY, find_katex, render_pages
from s18_utils.site.playground import FOLDERS, write_playground

ROOT = notebooks.NOTEBOOKS.parent
MARK = ".s18-site"  # in every folder that this command made, so that it replaces no other
TITLES = {"unet": "UNets on Oxford-IIIT Pet", "cvae": "Conditional VAEs"}
PICTURES = {
    "cvae-mnist/composite.png": "25 handwritten digits, each beside itself drawn under another label",
    "cvae-cifar10/composite.png": "25 small photographs, each beside itself drawn as another kind of object",
    "unets_side_by_side.png": "Six test photographs with the masks of each of the four UNets",
}


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
    if not notebooks.NOTEBOOKS.is_dir():
        raise InputError(f"there are no notebooks in {notebooks.NOTEBOOKS}: run this from a checkout of the repository")
    remedy = "choose another with --out"
    parent = make_folder(out.absolute().parent, remedy)
    out = parent / out.name
    if out.exists() and not (out / MARK).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} is there and is no site of this command: move it away, or {remedy}")
    with tempfile.TemporaryDirectory(dir=parent) as name:
        sources, pages = Path(name) / "sources", Path(name) / "pages"
        sources.mkdir()
        players = try_playground(sources)
        contents = [write_notebook(sources, each) for each in EXPERIMENTS.values() if each.notebook]
        docs = copy_docs(sources)
        write_index(sources, [*contents, *docs, *(["playground"] if players else [])])
        served = [folder for folder in FOLDERS if (sources / folder).is_dir()]
        for warning in render_pages(sources, pages, served, katex=find_katex()):
            display_message(warning, warning=True)
        (pages / MARK).touch()
        records.replace_folder(pages, out)
    return players


def try_playground(sources: Path) -> list[str]:
    """The playground's players; none, with a message, where npm can't bring its runtime."""
    try:
        return write_playground(sources)
    except InputError as error:
        for folder in FOLDERS:
            shutil.rmtree(sources / folder, ignore_errors=True)
        display_message(f"The site is built without the playground: {error}", warning=True)
        return []


def write_notebook(sources: Path, experiment) -> str:
    """Copies a notebook, without badges that lead elsewhere, its set-up folded; returns its page's name."""
    notebook = nbformat.read(notebooks.NOTEBOOKS / f"{experiment.notebook}.ipynb", as_version=4)
    file = f"{experiment.notebook}.ipynb"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"^\[!\[.*\n*", "", cell.source, flags=re.M)
        elif cell.source.startswith("# @title Set-up"):
            cell.metadata["tags"] = ["hide-input"]
    first = notebook.cells[0]
    title, _, rest = first.source.partition("\n")
    colab = f"https://colab.research.google.com/github/Delve-ERAV1/S18/blob/main/notebooks/{file}"
    kaggle = f"https://kaggle.com/kernels/welcome?src={REPOSITORY}/blob/main/notebooks/{file}"
    download = f"{REPOSITORY}/raw/main/notebooks/{file}"
    first.source = f"{title}\n\n[Open in Colab]({colab}) · [Open in Kaggle]({kaggle}) · [Download]({download})\n{rest}"
    if not any(cell.get("outputs") for cell in notebook.cells):
        display_message(f"{file} has no outputs: its page shows code alone.", warning=True)
    nbformat.write(notebook, sources / file)
    return experiment.notebook


def copy_docs(sources: Path) -> list[str]:
    """Copies the pages of `docs/`; returns their names."""
    docs = ROOT / "docs"
    if not docs.is_dir():
        return []
    shutil.copytree(docs, sources / "docs")
    return [f"docs/{file.stem}" for file in sorted(docs.glob("*.md"))]


def write_index(sources: Path, contents: list[str]) -> None:
    """Writes the first page: results with pictures, and the contents of the site."""
    parts = [
        "# UNets and conditional VAEs",
        "Four UNets trained from scratch on Oxford-IIIT Pet, and two conditional VAEs",
    ]
    parts[1] += " that are asked to draw an image under the wrong label. Results of the published records:"
    for family in FAMILIES:
        parts += [f"## {TITLES[family]}", published_results(family)]
    (sources / "pictures").mkdir()
    for name, text in PICTURES.items():
        if (records.PUBLISHED / name).is_file():
            file = name.replace("/", "-")
            shutil.copy(records.PUBLISHED / name, sources / "pictures" / file)
            parts.append(f"![{text}](pictures/{file})")
    parts.append("```{toctree}\n:hidden:\n\n" + "\n".join(contents) + "\n```")
    (sources / "index.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
