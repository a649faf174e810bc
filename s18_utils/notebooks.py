"""Executes the notebooks into a folder of pages, with an index that shows each as it finishes."""

import base64
import io
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image

from s18_utils.errors import InputError, check_choice, make_folder
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import default_preset, family_names, find_records
from s18_utils.report.tables import compare_records
from s18_utils.site.generator import RENDERED, find_katex
from s18_utils.site.run import MADE, write_run
from s18_utils.site.sources import require_notebooks

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
LARGE_PICTURE = 100_000  # bytes
CELL_SECONDS = 24 * 3600  # a full run on a slow device may take hours; a hung one is interrupted by hand


class TalkingClient(NotebookClient):
    """Executes a notebook and repeats in the terminal what it says while it trains."""

    def process_message(self, msg: dict, cell, cell_index: int):
        if msg["msg_type"] in ("display_data", "update_display_data"):
            data = msg["content"]["data"]
            text = data.get("text/plain", "")
            if "text/html" in data and "\n" not in text:  # a table is not for the terminal
                print(f"  {text}", flush=True)
        return super().process_message(msg, cell, cell_index)


@dataclass
class Page:
    """A notebook on its way through the run: `state` is waiting, running, done, failed or interrupted."""

    name: str
    title: str
    state: str = "waiting"
    seconds: float = 0.0


def run_notebooks(out: Path, preset: str | None = None, only: str | None = None) -> list[Page]:
    """Executes the notebooks one after the other.

    Writes `<name>.ipynb` and `<name>.html` of each into `out`, the records into `out/runs`, and `index.html` anew
    after each notebook. A notebook that fails is marked so and the others still run.

    Args:
        out: folder to write to.
        preset: `tiny`, `quick` or `full`; by default what `records.default_preset` gives each experiment.
        only: the name of one experiment, to run that one alone.

    Raises:
        InputError: an unknown experiment, notebooks that are not there, or a folder that can't be written to or holds
            files of others under names of the run's.
        KeyboardInterrupt: interrupted; the first page says so.
    """
    if only:
        check_choice("experiment", only, EXPERIMENTS)
    require_notebooks(NOTEBOOKS)
    if preset:
        os.environ["S18_PRESET"] = preset  # kernels inherit it
    default_preset()  # refuses an unknown one before anything is written
    out = make_folder(out, "choose another with --out")
    pages = [Page(row.notebook, row.title) for row in EXPERIMENTS.values() if row.notebook and only in (None, row.name)]
    for name in (*RENDERED, *(f"{page.name}{ending}" for page in pages for ending in (".ipynb", ".html"))):
        if (out / name).exists() and not (out / MADE).is_dir():
            raise InputError(f"{out / name} is there and of no run: move it away, or choose another folder with --out")
    os.environ["S18_RUNS"] = str(out / "runs")
    katex = find_katex()
    for page in pages:
        page.state = "running"
        write_pages(out, pages, katex)
        print(f"{page.name}: {page.title}", flush=True)
        start = time.perf_counter()
        try:
            page.state = "done" if execute_notebook(NOTEBOOKS / f"{page.name}.ipynb", out) else "failed"
        except KeyboardInterrupt:
            for left in pages:
                left.state = "interrupted" if left.state in ("waiting", "running") else left.state
            write_pages(out, pages, katex)
            raise
        page.seconds = time.perf_counter() - start
        print(f"{page.name}: {page.state} in {page.seconds:.0f} s\n", flush=True)
        write_pages(out, pages, katex)
    return pages


def run_notebook(source: Path) -> tuple[nbformat.NotebookNode, bool]:
    """A notebook with the outputs of executing it, and whether it ran to its end."""
    notebook = nbformat.read(source, as_version=4)
    logging.getLogger("traitlets").setLevel(logging.WARNING)  # it would announce each notebook a second time
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
    except AssertionError as error:
        if client.km is None:  # Ctrl-C: nbclient has put the kernel away, and trips when it does so again
            raise KeyboardInterrupt from error
        raise
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
    """Executes one notebook and writes it, executed, into `out`; returns whether it ran to its end."""
    notebook, good = run_notebook(source)
    nbformat.write(notebook, out / source.name)
    return good


def write_pages(out: Path, pages: list[Page], katex: Path | None) -> None:
    """Writes the pages of the run so far, in the look of the site; the first one reloads itself until all are done."""
    tables = []
    for family in ("unet", "cvae"):
        if kept := [record for name in family_names(family) for record in find_records([name], default_preset(name))]:
            tables.append(compare_records(kept))
    write_run(out, pages, tables, NOTEBOOKS.parent, katex)
