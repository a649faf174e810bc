"""The notebooks as files: alike where they must be; and the command that runs them."""

import re
from pathlib import Path

import nbformat
import pytest
from conftest import EVERY_NOTEBOOK, NOTEBOOK_FILES, assert_one_sentence, code_cells

from s18_utils import notebooks
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.site.generator import RENDERED
from s18_utils.site.run import MADE

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def write_notebooks(tmp_path, monkeypatch):
    """Puts notebooks of one cell each in place of the repository's; gives the names that they have."""

    def write(*codes: str) -> list[str]:
        folder = tmp_path / "notebooks"
        folder.mkdir()
        rows = list(EXPERIMENTS.values())[: len(codes)]
        monkeypatch.setattr(notebooks, "EXPERIMENTS", {row.name: row for row in rows})
        monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)
        for row, code in zip(rows, codes, strict=True):
            cells = [nbformat.v4.new_code_cell(code)]
            nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{row.notebook}.ipynb")
        return [row.notebook for row in rows]

    return write


def test_every_experiment_has_its_notebook():
    assert [file.stem for file in NOTEBOOK_FILES] == [row.notebook for row in EXPERIMENTS.values()]


@EVERY_NOTEBOOK
def test_format_is_valid(file):
    nbformat.validate(nbformat.read(file, as_version=4))


@EVERY_NOTEBOOK
def test_set_up_cell_is_the_same_everywhere(file):
    assert code_cells(file)[0]["source"] == code_cells(NOTEBOOK_FILES[0])[0]["source"]


@EVERY_NOTEBOOK
def test_settings_name_the_experiment_and_are_tiny_in_tests(file):
    settings = code_cells(file)[1]
    experiment = next(row for row in EXPERIMENTS.values() if row.notebook == file.stem)
    assert f'EXPERIMENT = "{experiment.name}"\n' in settings["source"]
    assert settings["metadata"]["nbmake"]["mock"] == {"PRESET": "tiny", "ANSWERS": True}  # answers run in tests alone


@EVERY_NOTEBOOK
def test_no_branch_for_tests(file):
    assert not any(re.search(r"\bCI\b", "".join(cell["source"])) for cell in code_cells(file))


def test_a_misspelt_preset_is_answered_by_one_line(tmp_path):
    source = NOTEBOOK_FILES[0]
    cells = nbformat.read(source, as_version=4).cells
    assert "PRESET = records.default_preset(" in cells[2].source
    cells[2].source = re.sub(r"PRESET = .*", 'PRESET = "quik"', cells[2].source)
    file = tmp_path / "notebooks" / source.name
    file.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells[:5]), file)
    executed, good = notebooks.run_notebook(file)
    assert not good
    [error] = executed.cells[-1].outputs
    assert error["traceback"] == ["InputError: unknown preset 'quik': choose one of tiny, quick, full"]


def test_a_notebook_that_fails_is_marked_and_the_others_run(tmp_path, monkeypatch, write_notebooks, capsys):
    monkeypatch.setenv("S18_PRESET", "tiny")
    written = write_notebooks("raise ValueError('broken on purpose')", "print(6 * 7)")

    pages = notebooks.run_notebooks(tmp_path / "out", "tiny")

    assert [page.state for page in pages] == ["failed", "done"]
    assert "broken on purpose" in capsys.readouterr().out
    index = (tmp_path / "out" / "index.html").read_text()
    assert "class='failed'" in index
    assert "class='done'" in index
    assert 'http-equiv="refresh"' not in index  # nothing is left to wait for
    others = {path.name for path in (tmp_path / "out").iterdir() if path.stem not in written}
    assert others <= {MADE, *RENDERED}  # all that a run may write over
    assert "42" in (tmp_path / "out" / f"{written[1]}.html").read_text()


def test_an_interrupt_stops_the_run_and_its_page_says_so(tmp_path, monkeypatch, write_notebooks):
    monkeypatch.setenv("S18_PRESET", "tiny")
    write_notebooks(*["import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"] * 2)
    with pytest.raises(KeyboardInterrupt):
        notebooks.run_notebooks(tmp_path / "out", "tiny")
    index = (tmp_path / "out" / "index.html").read_text()
    assert index.count("class='interrupted'") == 2
    assert 'http-equiv="refresh"' not in index


@pytest.mark.parametrize("name", ["search.html", "_static", "01_unet_maxpool_transpose_bce.html"])
def test_files_of_others_are_left_alone(tmp_path, monkeypatch, name):
    monkeypatch.setenv("S18_PRESET", "tiny")
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError) as caught:
        notebooks.run_notebooks(tmp_path, "tiny")
    assert_one_sentence(str(caught.value), f"{name} is there and of no run", "choose another folder with --out")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "mine")]


@pytest.mark.parametrize(("preset", "told"), [(None, "left to each notebook"), ("tiny", "tiny")])
def test_without_a_preset_each_notebook_chooses_its_own(tmp_path, monkeypatch, write_notebooks, preset, told):
    monkeypatch.setenv("S18_PRESET", "")  # so that what the run sets is taken back
    monkeypatch.delenv("S18_PRESET")
    monkeypatch.setattr(notebooks, "write_pages", lambda *arguments: None)
    [written] = write_notebooks("import os; print(os.environ.get('S18_PRESET', 'left to each notebook'))")

    notebooks.run_notebooks(tmp_path / "out", preset)

    [cell] = nbformat.read(tmp_path / "out" / f"{written}.ipynb", as_version=4).cells
    assert cell.outputs[0].text.strip() == told


@pytest.mark.parametrize(
    ("preset", "only", "said"), [("tiny", "unet", "unknown experiment 'unet'"), ("quik", None, "unknown preset 'quik'")]
)
def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path, monkeypatch, preset, only, said):
    monkeypatch.setenv("S18_PRESET", "tiny")
    with pytest.raises(InputError, match=said):
        notebooks.run_notebooks(tmp_path / "out", preset, only=only)
    assert not (tmp_path / "out").exists()
