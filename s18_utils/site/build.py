"""Builds the site: a page for each committed notebook, an index with the results, and the playground."""

import json
import re
import shutil
import tempfile
from html import escape
from pathlib import Path

import jinja2
import nbformat
from nbconvert.filters import markdown2html, strip_ansi
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from s18_utils import notebooks
from s18_utils.data.sources import make_writable
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import PUBLISHED, read_record
from s18_utils.site.networks import export
from s18_utils.site.runtime import copy_runtime
from s18_utils.tables import published_results

HERE = Path(__file__).resolve().parent
REPOSITORY = "https://github.com/Delve-ERAV1/S18"
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def build_site(out: Path) -> list[str]:
    """Builds the site into a folder, in place of what it held.

    Notebooks are shown as they were committed, not executed. Every link is relative, and nothing is fetched from
    elsewhere by whoever reads it.

    Args:
        out: the folder.

    Returns:
        The conditional VAEs that can be played with: those whose published record keeps its weights.

    Raises:
        InputError: no notebooks around the package, a folder that can't be written to, or no npm for the playground.
    """
    if not notebooks.NOTEBOOKS.is_dir():
        raise InputError(f"there are no notebooks in {notebooks.NOTEBOOKS}: run this from a checkout of the repository")
    make_writable(out.absolute().parent, "choose another with --out")
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as name:
        partial = Path(name) / "site"
        shutil.copytree(HERE / "static", partial / "static")
        (partial / "static" / "code.css").write_text(code_styles())
        players = write_playground(partial)
        shared = shared_values(players)
        for page in shared["pages"]:
            notebook = nbformat.read(notebooks.NOTEBOOKS / f"{page['name']}.ipynb", as_version=4)
            cells = [cell for each in notebook.cells for cell in show_cell(each)]
            write(partial, f"{page['name']}.html", "notebook.html.j2", page=page, cells=cells, **shared)
        (partial / "figures").mkdir()
        pictures = [picture for picture in PICTURES if (PUBLISHED / picture["file"]).is_file()]
        for picture in pictures:
            shutil.copy(PUBLISHED / picture["file"], partial / "figures" / picture["name"])
        results = {family: to_html(published_results(family)) for family in ("unet", "cvae")}
        write(partial, "index.html", "index.html.j2", pictures=pictures, results=results, **shared)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out.absolute())
    return players


PICTURES = [
    {
        "file": "cvae-mnist/composite.png",
        "name": "cvae-mnist-composite.png",
        "alt": "25 handwritten digits, each beside itself drawn as another digit",
        "text": "Each test digit beside itself drawn under another label; green where the judge reads that.",
    },
    {
        "file": "cvae-cifar10/composite.png",
        "name": "cvae-cifar10-composite.png",
        "alt": "25 small photographs, each beside itself drawn as another kind of object",
        "text": "The same with photographs: a frog asked to be a ship.",
    },
    {
        "file": "unets_side_by_side.png",
        "name": "unets_side_by_side.png",
        "alt": "Six test photographs above their trimaps and what each of the four UNets predicts",
        "text": "Six test photographs, their true trimaps, and what each of the four UNets makes of them.",
    },
]


def write_playground(site: Path) -> list[str]:
    """Writes the playground's page, networks and runtime; returns the experiments in it, none without weights."""
    kept = [read_record(PUBLISHED / row.name) for row in EXPERIMENTS.values() if row.family == "cvae"]
    sets = {}
    records = {record.metrics["experiment"]: record for record in kept if record and record.has_weights}
    if not records:
        return []
    (site / "runtime").mkdir()
    copy_runtime(site / "runtime")
    for name, record in records.items():
        (site / "models" / name).mkdir(parents=True)
        sets[name] = export(record, PUBLISHED, site / "models" / name)
    (site / "models" / "sets.json").write_text(json.dumps(sets))
    titles = {name: EXPERIMENTS[name].title for name in sets}
    write(site, "playground.html", "playground.html.j2", sets=sets, titles=titles, **shared_values(list(sets)))
    return list(sets)


def shared_values(players: list[str]) -> dict:
    """What the templates of all pages are given."""
    pages = [{"name": row.notebook, "title": row.title} for row in EXPERIMENTS.values()]
    return {"pages": pages, "players": players, "repository": REPOSITORY}


def write(site: Path, name: str, template: str, **values) -> None:
    (site / name).write_text(TEMPLATES.get_template(template).render(here=name, **values), encoding="utf-8")


def show_cell(cell: NotebookNode) -> list[dict]:
    """A cell as pieces of a page: `kind` prose, input or output, and its `html`."""
    if cell.cell_type == "markdown":
        return [{"kind": "prose", "html": to_html(cell.source)}]
    pieces = [{"kind": "input", "html": f"<pre>{colour(cell.source)}</pre>"}]
    return pieces + [{"kind": "output", "html": show_output(output)} for output in cell.outputs]


def show_output(output: NotebookNode) -> str:
    """The richest form of an output that a page without a kernel can show."""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="Output of the cell above" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/markdown" in data:
        return to_html(data["text/markdown"])
    if "text/html" in data:
        return in_boxes(data["text/html"])
    return f"<pre>{escape(strip_ansi(output.get('text') or data.get('text/plain', '')))}</pre>"


def to_html(text: str) -> str:
    """Markdown as HTML, without the badges that only make sense elsewhere, and with links to pages of the site."""
    text = re.sub(r"^\[!\[.*\n*", "", text, flags=re.M)
    text = re.sub(r"\]\((\d\d_\w+)\.ipynb\)", r"](\1.html)", text)
    return in_boxes(re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(text)))


def in_boxes(page: str) -> str:
    """HTML with every table in a box that scrolls by itself."""
    return page.replace("<table", '<div class="scroll"><table').replace("</table>", "</table></div>")


def colour(code: str) -> str:
    """Python code as HTML in the classes of `code.css`."""
    return highlight(code, PythonLexer(), HtmlFormatter(nowrap=True))


def code_styles() -> str:
    """Style sheet for code, by daylight and at night."""
    day, night = (
        HtmlFormatter(style=style).get_style_defs([".input", ".highlight"]) for style in ("friendly", "github-dark")
    )
    return f"@media (prefers-color-scheme: light) {{\n{day}\n}}\n@media (prefers-color-scheme: dark) {{\n{night}\n}}\n"
