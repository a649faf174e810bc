"""How pages are made from notebooks and Markdown, what is said of that which can't, and what a build leaves alone."""

import base64
import io
import json
import shutil

import nbformat
import pytest
from conftest import assert_one_sentence, listing, sample_history, sample_metrics
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from s18_utils import notebooks, records
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.notebooks import Page
from s18_utils.records import Record
from s18_utils.report.table import Table
from s18_utils.runs import write_record
from s18_utils.site import build, npm, sources
from s18_utils.site.generator import render_pages
from s18_utils.site.run import write_run

NAMES = [each.notebook for each in EXPERIMENTS.values()]
pytestmark = pytest.mark.filterwarnings("ignore:.*MystReferenceResolver.*")  # of the generator about its own insides
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A small repository with one notebook, no record, and no npm."""
    root = tmp_path / "repository"
    (root / "notebooks").mkdir(parents=True)
    cells = [new_markdown_cell("# One\n\nText."), new_code_cell("1 + 1", outputs=[new_output("stream", text="2")])]
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / f"{NAMES[0]}.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", root / "notebooks")
    monkeypatch.setattr(build, "ROOT", root)
    monkeypatch.setattr(records, "PUBLISHED", root / "figures")
    monkeypatch.setattr(npm, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    return root


def picture(width: int = 40, **metadata) -> nbformat.NotebookNode:
    content = io.BytesIO()
    Image.new("RGB", (width, 10)).save(content, "PNG")
    data = {"image/png": base64.b64encode(content.getvalue()).decode(), "text/plain": "<Figure>"}
    return new_output("display_data", data=data, metadata=metadata)


def test_what_is_missing_is_said_and_the_rest_is_built(checkout, tmp_path, capsys):
    (checkout / "notebooks" / f"{NAMES[1]}.ipynb").write_text("no notebook")
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), checkout / "notebooks" / f"{NAMES[2]}.ipynb")
    folder = checkout / "figures" / "unet-maxpool-transpose-bce"
    metrics = sample_metrics()
    write_record(Record(folder, metrics, sample_history()), {}, {})
    (checkout / "figures" / "cvae-mnist").mkdir()
    (checkout / "figures" / "cvae-mnist" / "metrics.json").write_text("[]")
    assert build.build_site(tmp_path / "out") == []
    said = capsys.readouterr().out
    for part in (
        "Formulas are shown as their source: npm",
        f"{NAMES[1]}.ipynb can't be read",
        f"{NAMES[2]}.ipynb has no outputs",
        f"{NAMES[3]}.ipynb can't be read",  # there is none
        "The site is built without cvae-mnist",
    ):
        assert part in said
    assert (tmp_path / "out" / "notebooks" / f"{NAMES[0]}.html").is_file()
    assert (tmp_path / "out" / "notebooks" / f"{NAMES[2]}.html").is_file()
    assert (tmp_path / "out" / "records" / "unet-maxpool-transpose-bce.html").is_file()
    assert not (tmp_path / "out" / "playground.html").exists()


def test_a_site_takes_the_place_of_a_site_and_of_nothing_else(checkout, tmp_path, monkeypatch):
    def render(sources, pages, *arguments, **options) -> list:
        """Pages without a content."""
        for file in (*sources.rglob("*.md"), *sources.rglob("*.ipynb")):
            page = (pages / file.relative_to(sources)).with_suffix(".html")
            page.parent.mkdir(parents=True, exist_ok=True)
            page.touch()
        return []

    monkeypatch.setattr(build, "render_pages", render)
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(thesis)
    before = listing(thesis)
    for out in (thesis.relative_to(thesis), thesis, thesis / "thesis.txt"):
        with pytest.raises(InputError) as caught:
            build.build_site(out)
        assert_one_sentence(str(caught.value), "is no site of this command", "choose another with --out")
    assert listing(thesis) == before
    out = tmp_path / "out"
    build.build_site(out)
    first = listing(out)
    (out / "notebooks" / "own.txt").write_text("mine")
    (out / "CNAME").write_text("example.org")
    (checkout / "notebooks" / f"{NAMES[0]}.ipynb").rename(checkout / "notebooks" / f"{NAMES[1]}.ipynb")
    build.build_site(out)
    second = listing(out)
    assert second["CNAME"] == b"example.org"
    assert second["notebooks/own.txt"] == b"mine"
    assert first.keys() - second.keys() == {f"notebooks/{NAMES[0]}.html", f"notebooks/{NAMES[0]}.ipynb"}
    (out / "docs").mkdir()
    (out / "docs" / "data.html").write_text("mine too")
    (checkout / "docs").mkdir()
    (checkout / "docs" / "data.md").write_text("# Data\n")
    with pytest.raises(InputError) as caught:
        build.build_site(out)
    assert_one_sentence(str(caught.value), "docs/data.html is there")
    assert (out / "docs" / "data.html").read_text() == "mine too"
    shutil.rmtree(out / "docs")
    (out / "docs").write_text("mine as well")
    before = listing(out)
    with pytest.raises(InputError) as caught:
        build.build_site(out)
    assert_one_sentence(str(caught.value), "docs is there")
    assert listing(out) == before
    assert (out / "notebooks" / f"{NAMES[1]}.html").is_file()


def test_without_a_checkout_it_says_so(checkout, monkeypatch, tmp_path):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "nowhere")
    with pytest.raises(InputError) as caught:
        build.build_site(tmp_path / "out")
    assert_one_sentence(str(caught.value), "no notebooks", "run this from a checkout")
    assert not (tmp_path / "out").exists()


def test_a_notebook_is_made_ready(tmp_path):
    described = {"image/png": {"alt": "Six cats", "width": 300}}
    cells = [
        new_markdown_cell("[![Open in Colab](https://x/badge.svg)](https://x)\n\n# 1 · Title\n\n**Q.** Why?"),
        new_code_cell("install()", metadata={"cellView": "form"}),
        new_code_cell("hidden()", metadata={"jupyter": {"source_hidden": True}}),
        new_markdown_cell("## What it *sees*\n\nSee [the code](../s18_utils/x.py). The mask is [drawn](a.md) twice."),
        new_code_cell("show()", outputs=[picture(40, **described), new_output("stream", text="so"), picture(80)]),
        new_code_cell("play()", outputs=[new_output("display_data", data={WIDGET: {}, "text/plain": "a pad"})]),
    ]
    (tmp_path / "s18_utils").mkdir()
    (tmp_path / "s18_utils" / "x.py").touch()
    ready = sources.prepare_notebook(new_notebook(cells=cells), "01_x.ipynb", tmp_path)
    first, set_up, hidden, prose, *rest = ready.cells
    assert first.source.startswith("# 1 · Title\n\n[Open in Colab](https://colab.research.google.com/github/")
    assert '<a class="launch" href="01_x.ipynb" download>' in first.source
    assert "badge" not in first.source
    assert set_up.metadata["tags"] == hidden.metadata["tags"] == ["hide-input"]
    assert "(https://github.com/Delve-ERAV1/S18/blob/main/s18_utils/x.py)" in prose.source
    assert "[drawn](a.md)" in prose.source
    pictures = [cell.metadata["mystnb"]["image"] for cell in rest[:2]]
    assert pictures[0] == {"alt": "Six cats", "width": "300px"}
    # Of another picture of the same cell: the heading and the sentence above, and half its pixels.
    assert pictures[1] == {"alt": "What it sees: See the code. (2)", "width": "40px"}
    assert [len(cell.outputs) for cell in rest] == [2, 1, 1]
    assert rest[1].metadata["tags"] == ["remove-input"]
    assert rest[2].outputs[0].data == {"text/plain": "a pad"}
    json.dumps(ready)


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ([], "Picture"),
        (["## The data"], "The data"),
        (
            ["## Run", "No heading of its own: look at *row* two. And three."],
            "Run: No heading of its own: look at row two.",
        ),
        (["# T\n\n$$x$$"], "T"),
        (["## A\n\n" + "word " * 60 + "."], "A: " + "word " * 31 + "…"),
    ],
)
def test_a_picture_without_a_text_gets_one_from_the_prose_above(before, text):
    assert sources.describe_place(before, 0) == text


def test_a_drawing_function_says_what_its_picture_shows():
    source = "x = draw_curves(record)\nfigures.draw_composite(record, model)"
    assert "beside itself drawn under another label" in sources.describe_call(source, 0, 1)
    assert sources.describe_call(source, 1, 3) is None
    assert sources.describe_call("plot()", 0, 1) is None
    two = "display(figures.draw_all_labels(a))\nfigures.draw_composite(a)"
    assert sources.describe_call(two, 1, 2) == sources.describe_call("figures.draw_composite(a)", 0, 1)


def test_a_run_shows_each_notebook_as_it_finishes(checkout, tmp_path):
    pages, table = [Page(NAMES[0], "First"), Page(NAMES[1], "Second & last")], Table(["a", "b"], [["x", "0.5"]])
    out = tmp_path / "build"
    out.mkdir()
    write_run(out, pages, [table], checkout)
    first = (out / "index.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in first
    assert "0.5" in first
    assert f"{NAMES[0]}.html" not in first
    cells = [new_markdown_cell("# One\n\nText."), new_code_cell("1 + 1", outputs=[picture()])]
    nbformat.write(new_notebook(cells=cells), out / f"{NAMES[0]}.ipynb")
    pages[0].state, pages[0].seconds, pages[1].state = "failed", 12.4, "running"
    write_run(out, pages, [table], checkout)
    then = (out / "index.html").read_text(encoding="utf-8")
    assert f"href='{NAMES[0]}.html'>First" in then
    assert "12 s" in then
    assert "Second &amp; last" in then
    page = (out / f"{NAMES[0]}.html").read_text(encoding="utf-8")
    assert "Text." in page
    assert 'href="index.html"' in page
    assert 'src="_images/' in page
    assert not {path.name for path in tmp_path.iterdir()} - {"build", "cache", "repository"}  # nothing beside `out`
    pages[1].state = "failed"  # whose notebook could not be written
    write_run(out, pages, [], checkout)
    assert 'http-equiv="refresh"' not in (out / "index.html").read_text(encoding="utf-8")


def test_words_lead_to_their_definitions_once_and_links_that_lead_nowhere_are_told(tmp_path):
    pages = tmp_path / "pages"
    (pages / "docs").mkdir(parents=True)
    menu = "```{toctree}\ndocs/definitions\n```\n"
    prose = "# IoU\n\n`IoU` and [IoU](https://x.y). The mean IoU, an iou again, Dice losses, IoUs.\n\n$a_1$\n\n"
    prose += "[x](nowhere.md) [y](#nothing) ![z](none.png)\n\n"
    (pages / "index.md").write_text(prose + menu)
    definitions = "# Definitions\n\n## IoU\n\n<!-- also: mIoU, mean IoU -->\n\nA.\n\n## Dice loss\n\nOf IoU.\n"
    (pages / "docs" / "definitions.md").write_text(definitions)
    warnings = render_pages(pages, tmp_path / "out")
    assert len(warnings) == 3
    assert all(name in " ".join(warnings) for name in ("nowhere.md", "nothing", "none.png"))
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    links = page.split('class="term')[1:]
    assert [link.partition(">")[2].partition("<")[0] for link in links] == ["mean IoU", "Dice losses"]
    assert 'href="docs/definitions.html#dice-loss"' in page
    assert (
        "term" not in (tmp_path / "out" / "docs" / "definitions.html").read_text(encoding="utf-8").split("<article")[1]
    )
    assert '<span class="math">\\(a_1\\)</span>' in page
    assert "katex" not in page  # which was not there
