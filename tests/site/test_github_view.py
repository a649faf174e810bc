"""What GitHub shows: the committed notebooks, rendered and free of debris, and the README's pictures and addresses."""

import json
import re
from pathlib import Path

import pytest
from conftest import EVERY_NOTEBOOK, NOTEBOOK_FILES, code_cells

from s18_utils.report.readme import write_results
from s18_utils.site import generator

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
REPOSITORY = re.search(r'Repository = "https://github.com/(\S+)"', (ROOT / "pyproject.toml").read_text())[1]
COLAB = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks"
KAGGLE = f"https://kaggle.com/kernels/welcome?src=https://github.com/{REPOSITORY}/blob/main/notebooks"
FILES_AT = f"https://github.com/{REPOSITORY}/blob/main"
PICTURES_AT = f"https://raw.githubusercontent.com/{REPOSITORY}/main"
SIZE = 2_000_000  # bytes; GitHub stops rendering somewhere above
WORDS = 3  # an alternative text shorter than this says nothing of a picture
TRACEBACK = "Traceback (most recent call last)"


def repositories(text: str) -> set[str]:
    """The owner/name of everything on GitHub called like this project, also behind Colab's addresses."""
    return set(re.findall(r"github(?:\.com)?/([\w.-]+/S18)\b", text))


@EVERY_NOTEBOOK
def test_badges_lead_to_this_notebook_in_the_projects_repository(file):
    first = "".join(json.loads(file.read_text())["cells"][0]["source"])
    badges = re.findall(r"\[!\[[^\]]+\]\([^)]+\)\]\(([^)]+)\)", first)
    assert badges == [f"{COLAB}/{file.name}", f"{KAGGLE}/{file.name}"]
    assert repositories(file.read_text()) == {REPOSITORY}


def test_the_readme_leads_to_every_notebook():
    for file in NOTEBOOK_FILES:
        assert f"]({COLAB}/{file.name})" in README
        assert f"]({KAGGLE}/{file.name})" in README
        assert f"]({FILES_AT}/notebooks/{file.name})" in README
    assert repositories(README) == {REPOSITORY}


@EVERY_NOTEBOOK
def test_is_small_enough_and_keeps_no_widget_state(file):
    assert file.stat().st_size < SIZE
    assert "widgets" not in json.loads(file.read_text())["metadata"]  # GitHub calls such a notebook invalid


@EVERY_NOTEBOOK
def test_is_executed_from_top_to_bottom(file):
    assert [cell["execution_count"] for cell in code_cells(file)] == list(range(1, len(code_cells(file)) + 1))


@EVERY_NOTEBOOK
def test_what_ends_in_a_value_shows_it(file):
    for cell in code_cells(file):
        last = "".join(cell["source"]).rstrip().splitlines()[-1]
        if re.match(r"[\w.]+\(.*\)$", last):  # a call whose value nobody keeps: print, a table, a figure, a widget
            assert cell["outputs"], f"no output: {last}"


@EVERY_NOTEBOOK
def test_shows_no_errors_and_no_warnings(file):
    for cell in code_cells(file):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            assert TRACEBACK not in json.dumps(output)


@EVERY_NOTEBOOK
def test_every_output_has_something_that_github_can_show(file):
    shown = {"text/plain", "text/html", "text/markdown", "image/png"}
    for cell in code_cells(file):
        for output in cell["outputs"]:
            assert output["output_type"] == "stream" or shown & output["data"].keys()


def test_the_readme_is_one_to_read():
    assert len(README.splitlines()) <= 130
    first_screen = "\n".join(README.splitlines()[:12])
    assert "github.io" in first_screen
    assert "![" in first_screen
    assert "`<!--" not in README  # within code, a mark is seen


def test_the_readmes_pictures_exist_and_say_what_they_show():
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", README)
    assert "<img" not in README  # it would need a check of its own
    own = [(text, address) for text, address in pictures if address.startswith(PICTURES_AT)]
    assert len(own) >= 2
    for text, address in own:
        assert len(text.split()) >= WORDS, f"{address} has no alternative text"
        assert (ROOT / address.removeprefix(f"{PICTURES_AT}/")).is_file(), address
    assert all(text for text, _ in pictures)


def test_the_readmes_links_work_on_github_on_pypi_and_elsewhere():
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    assert all(link.startswith("https://") for link in links)  # PyPI knows no folder that others could be relative to
    own = [link.removeprefix(f"{FILES_AT}/") for link in links if link.startswith(FILES_AT)]
    assert len(own) > 8
    assert [path for path in own if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("file", sorted((ROOT / "docs").glob("*.md")), ids=lambda file: file.stem)
def test_links_between_the_pages_of_docs_and_the_code_lead_to_files(file):
    links = re.findall(r"\]\((?!https:)([^)#\s]+)", file.read_text())
    assert [link for link in links if not (file.parent / link).exists()] == []


def test_numbers_in_the_readme_are_those_of_the_records():
    assert write_results(README) == README


def test_each_line_of_code_among_the_definitions_is_one_of_the_package():
    page = (ROOT / "docs" / "definitions.md").read_text()
    quoted = re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.S)
    assert len(quoted) > 15
    for path, lines in quoted:
        code = [line.strip() for line in (ROOT / path).read_text().splitlines()]
        assert [line for line in lines.splitlines() if line.strip() not in code] == [], path


def test_the_site_names_the_same_repository():
    assert f"https://github.com/{REPOSITORY}" == generator.REPOSITORY
