"""Executes the notebooks into a folder of pages, with an index that shows each as it finishes."""

import base64
import io
import os
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from PIL import Image

from s18_utils.errors import InputError, check_choice, make_folder
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import family_names, find_records
from s18_utils.report.tables import compare_records

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
LARGE_PICTURE = 100_000  # bytes
CELL_SECONDS = 24 * 3600  # a full run on a slow device may take hours; a hung one is interrupted by hand


class TalkingClient(NotebookClient):
    """Executes a notebook and repeats in the terminal what it says while it trains."""

    def process_message(self, msg: dict, cell, cell_index: int):
        if msg["msg_type"] in ("display_data", "update_display_data"):
            data = msg["content"]["data"]
            if "text/html" in data:
                print(f"  {data.get('text/plain', '')}", flush=True)
        return super().process_message(msg, cell, cell_index)


@dataclass
class Page:
    """A notebook on its way through the run: `state` is waiting, running, done or failed."""

    name: str
    title: str
    state: str = "waiting"
    seconds: float = 0.0


def run_notebooks(out: Path, preset: str, only: str | None = None) -> list[Page]:
    """Executes the notebooks one after the other.

    Writes `<name>.ipynb` and `<name>.html` of each into `out`, the records into `out/runs`, and `index.html` anew
    after each notebook. A notebook that fails is marked so and the others still run.

    Args:
        out: folder to write to.
        preset: `tiny`, `quick` or `full`.
        only: the name of one experiment, to run that one alone.

    Raises:
        InputError: an unknown experiment, notebooks that are not there, or a folder that can't be written to.
    """
    if only:
        check_choice("experiment", only, EXPERIMENTS)
    if not NOTEBOOKS.is_dir():
        raise InputError(f"there are no notebooks in {NOTEBOOKS}: run this from a checkout of the repository")
    out = make_folder(out, "choose another with --out")
    os.environ["S18_RUNS"] = str(out / "runs")  # kernels inherit it
    os.environ["S18_PRESET"] = preset
    pages = [Page(row.notebook, row.title) for row in EXPERIMENTS.values() if only in (None, row.name)]
    for page in pages:
        page.state = "running"
        write_index(out, pages, preset)
        print(f"{page.name}: {page.title}", flush=True)
        start = time.perf_counter()
        page.state = "done" if execute_notebook(NOTEBOOKS / f"{page.name}.ipynb", out) else "failed"
        page.seconds = time.perf_counter() - start
        print(f"{page.name}: {page.state} in {page.seconds:.0f} s\n", flush=True)
        write_index(out, pages, preset)
    return pages


def run_notebook(source: Path) -> tuple[nbformat.NotebookNode, bool]:
    """A notebook with the outputs of executing it, and whether it ran to its end."""
    notebook = nbformat.read(source, as_version=4)
    client = TalkingClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,  # GitHub refuses to show notebooks that carry it
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its notices are for servers
        resources={"metadata": {"path": str(source.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        print(f"  {str(error).strip().splitlines()[-1]}", flush=True)
        return notebook, False
    return notebook, True


def reduce_pictures(notebook: nbformat.NotebookNode) -> None:
    """Reduces a notebook's large pictures to 256 colours: GitHub stops rendering at some megabytes a notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            content = base64.b64decode(output.get("data", {}).get("image/png", ""))
            if len(content) > LARGE_PICTURE:
                file = io.BytesIO()
                picture = Image.open(io.BytesIO(content)).convert("RGBA")
                picture.quantize(256, Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
                output.data["image/png"] = base64.b64encode(file.getvalue()).decode()


def execute_notebook(source: Path, out: Path) -> bool:
    """Executes one notebook and writes it, executed, as notebook and page; returns whether it ran to its end."""
    notebook, good = run_notebook(source)
    nbformat.write(notebook, out / source.name)
    exporter = HTMLExporter(theme="light")
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": source.stem}})
    # The template sets code that a cell displays in the font of prose.
    font = "var(--jp-code-font-size, 13px) var(--jp-code-font-family, monospace)"
    style = f"<style>.highlight pre {{ font: {font} }}</style></head>"
    (out / f"{source.stem}.html").write_text(page.replace("</head>", style, 1), encoding="utf-8")
    return good


def write_index(out: Path, pages: list[Page], preset: str) -> None:
    """Writes `index.html`; it reloads itself until every notebook is through."""
    running = any(page.state in ("waiting", "running") for page in pages)
    rows = "".join(
        f"<tr class='{page.state}'><td>{link_page(page)}</td><td>{page.state}</td>"
        f"<td>{f'{page.seconds:.0f} s' if page.seconds else ''}</td></tr>"
        for page in pages
    )
    compared = (find_records(family_names(family), preset) for family in ("unet", "cvae"))
    tables = (compare_records(kept)._repr_html_() for kept in compared if kept)
    results = "".join(f'<div class="scroll">{table}</div>' for table in tables)
    content = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{'<meta http-equiv="refresh" content="5">' if running else ""}<title>S18</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #8886; text-align: right }}
td {{ white-space: nowrap }} td:first-child, th:first-child {{ text-align: left }}
.scroll {{ overflow-x: auto }} .failed {{ color: #d55e00 }} .waiting {{ opacity: .6 }}
</style></head><body><h1>S18: UNets and conditional VAEs</h1>
<table><thead><tr><th>notebook</th><th>state</th><th>time</th></tr></thead><tbody>{rows}</tbody></table>
<h2>Results</h2><p>At preset {escape(preset)}, or as published where this run has none.</p>{results}</body></html>
"""
    (out / "index.html").write_text(content, encoding="utf-8")


def link_page(page: Page) -> str:
    title = escape(page.title)
    return f"<a href='{page.name}.html'>{title}</a>" if page.state in ("done", "failed") else title
