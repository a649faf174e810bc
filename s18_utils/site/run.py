"""The pages of a run: each notebook as it finishes, and a first page with the state of all and the results so far."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from s18_utils.report.table import Table
from s18_utils.site.generator import render_pages
from s18_utils.site.sources import write_notebook

RELOAD = '<meta http-equiv="refresh" content="5">'
MADE = ".pages"  # in the folder of the run: what the pages are made of


def write_run(out: Path, pages: Sequence, results: Sequence[Table], root: Path, katex: Path | None = None) -> None:
    """Renders `index.html` and the pages of the notebooks that were executed into `out`.

    Args:
        out: the folder of the run, with the executed notebooks.
        pages: the notebooks of the run with `name`, `title`, `seconds` and `state`: waiting, running, done, failed or
            interrupted.
        results: tables of scores.
        root: of the repository.
        katex: as of `generator.find_katex`.
    """
    sources = out / MADE / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    executed = [page for page in pages if page.state in ("done", "failed")]
    for page in executed:
        if not (sources / f"{page.name}.ipynb").is_file() or page is executed[-1]:
            write_notebook(out / f"{page.name}.ipynb", root, sources, folder="", docs=False)
    rows = "".join(
        f"<tr class='{page.state}'><td>{link_page(page)}</td><td>{page.state}</td>"
        f"<td>{f'{page.seconds:.0f} s' if page.seconds else ''}</td></tr>"
        for page in pages
    )
    head = "<thead><tr><th>notebook</th><th>state</th><th>time</th></tr></thead>"
    tables = "".join(f'<div class="table-wrapper">{table._repr_html_()}</div>\n' for table in results)
    parts = [
        "# S18: UNets and conditional VAEs",
        RELOAD if any(page.state in ("waiting", "running") for page in pages) else "",
        f'<div class="table-wrapper"><table class="run">{head}<tbody>{rows}</tbody></table></div>',
        "## Results\n\nOf this run, or as published where it has none.",
        tables,
    ]
    if executed:
        names = "\n".join(page.name for page in executed)
        parts.append(f"```{{toctree}}\n:hidden:\n:caption: Notebooks\n\n{names}\n```")
    (sources / "index.md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    # Links to notebooks that have not run yet lead nowhere so far; there is no need to say so.
    render_pages(sources, out, kept=out / MADE / "doctrees", katex=katex)


def link_page(page) -> str:
    """A notebook's title, as a link once there is a page."""
    title = escape(page.title)
    return f"<a href='{page.name}.html'>{title}</a>" if page.state in ("done", "failed") else title
