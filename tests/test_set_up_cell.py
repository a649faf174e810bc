"""The notebooks' first cell, on machines that know nothing of the project: Colab, and Kaggle without a network.

Such a machine is a virtual environment that sees what the platforms bring and nothing else. In place of a registry
there is a folder of wheels, packed from what is installed here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

import s18_utils
from s18_utils.experiments import EXPERIMENTS

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "01_unet_maxpool_transpose_bce.ipynb"
SOURCE = next(cell.source for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code")
KEPT = ("torch", "torchvision", "numpy")
PLATFORM = (*KEPT, "matplotlib", "ipywidgets", "ipykernel", "pyarrow", "pip")
REGISTRY = (
    "lightning",
    "torchmetrics",
    "safetensors",
    "platformdirs",
    "pydantic",
    "huggingface_hub",
    "typer",
)
REGISTRY += ("anywidget", "filelock")
WHERE = "import s18_utils; print(s18_utils.__file__)"


def with_dependencies(*names: str) -> dict[str, metadata.Distribution]:
    """The installed distributions of these names and of all that they need, by name."""
    found, seen, waiting = {}, set(), [Requirement(name) for name in names]
    while waiting:
        need = waiting.pop()
        if str(need) in seen:
            continue
        seen.add(str(need))
        part = metadata.distribution(need.name)
        found[part.name.lower()] = part
        for line in part.requires or []:
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": it}) for it in need.extras or {""}):
                waiting.append(further)
    return found


def pack(part: metadata.Distribution, folder: Path) -> None:
    """Makes an installed distribution a wheel again."""
    tag = max(re.findall(r"^Tag: (\S+)", part.read_text("WHEEL"), re.M))  # py3 rather than py2
    name = f"{part.name.replace('-', '_')}-{part.version}-{tag}.whl"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for file in part.files:
            if file.parts[0] != ".." and file.suffix != ".pyc":
                wheel.write(file.locate(), str(file))


def no_network(**more: str) -> dict[str, str]:
    """An environment in which whatever asks for the network fails at once."""
    ours = ("PYTHON", "PIP_", "S18_", "JUPYTER", "VIRTUAL_ENV")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    dead = "http://127.0.0.1:9"
    return clean | {"http_proxy": dead, "https_proxy": dead, "PIP_RETRIES": "0"} | more


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A repository with the files of this one but for large ones, and without the release that the cell asks for."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "s18_utils", folder / "s18_utils", ignore=shutil.ignore_patterns("__pycache__"))
    heavy = shutil.ignore_patterns("*.png", "weights.safetensors")  # fifty megabytes that nothing here looks into
    shutil.copytree(ROOT / "figures", folder / "figures", ignore=heavy)
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    git = ["git", "-C", folder, "-c", "user.name=Test", "-c", "user.email=test@localhost"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "All"]):
        subprocess.run([*git, *words], check=True)
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Path:
    """Wheels of all that the platforms may lack, and of what the package is built with."""
    folder = tmp_path_factory.mktemp("registry")
    for name in with_dependencies(*REGISTRY).keys() - with_dependencies(*PLATFORM).keys() | {"setuptools"}:
        pack(metadata.distribution(name), folder)
    return folder


@pytest.fixture
def machine(tmp_path):
    """Makes a machine that has these distributions alone, and gives its Python."""

    def make(*names: str) -> Path:
        platform = tmp_path / "platform"
        platform.mkdir()
        for part in with_dependencies(*names).values():
            for entry in {file.parts[0] for file in part.files} - {"..", "__pycache__"}:
                if not (platform / entry).exists():
                    (platform / entry).symlink_to(part.locate_file(entry))
        venv.create(tmp_path / "machine")
        site = next((tmp_path / "machine").glob("lib/python*/site-packages"))
        (site / "platform.pth").write_text(str(platform))
        return tmp_path / "machine" / "bin" / "python"

    return make


def run_cell(python: Path, folder: Path, cell: str = SOURCE, **environment: str) -> tuple[str, Path]:
    """Runs the cell in a folder; gives what it printed, and where s18_utils was imported from after it."""
    run = subprocess.run(
        [python, "-c", f"{cell}\n{WHERE}"],
        cwd=folder,
        env=no_network(**environment),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    *said, where = run.stdout.splitlines()
    return "\n".join(said), Path(where)


def run_notebook(python: Path, folder: Path, cells: list, **environment: str) -> list:
    """Executes cells in a kernel of that Python, started in a folder, and gives them back with their outputs."""
    kernel = folder.parent / "jupyter" / "kernels" / "machine"
    kernel.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "machine", "language": "python"}))
    os.environ["JUPYTER_PATH"] = str(kernel.parents[1])
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, kernel_name="machine", resources={"metadata": {"path": str(folder)}})
    client.execute(env=no_network(**environment))
    return notebook.cells


def test_addresses_and_requirements_are_those_of_the_project():
    repository = re.search(r'Repository = "(\S+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert f'REPOSITORY, TAG = "{repository}", "v{s18_utils.__version__}"\n' in SOURCE
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)[1]
    needed = re.findall(r'"([^"]+)"', listed)
    assert len(needed) > 10
    assert set(needed) <= set((ROOT / "requirements.txt").read_text().splitlines())


def test_on_colab_the_notebook_installs_what_is_missing_and_the_newest_where_there_is_no_release(
    machine, repository, registry, tmp_path, shared_store, monkeypatch
):
    monkeypatch.setenv("JUPYTER_PATH", "")  # so that it is restored
    (tmp_path / "content").mkdir()
    report = (
        "import importlib.metadata, json, s18_utils\n"
        "from s18_utils.records import PUBLISHED\n"
        f"versions = {{name: importlib.metadata.version(name) for name in {KEPT}}}\n"
        "records = [file.parent.name for file in PUBLISHED.rglob('metrics.json')]\n"
        "print(json.dumps([versions, s18_utils.__file__, records]))"
    )
    cells = run_notebook(
        machine(*PLATFORM),
        tmp_path / "content",
        [*nbformat.read(NOTEBOOK, 4).cells, nbformat.v4.new_code_cell(report)],
        S18_REPOSITORY=f"file://{repository}",
        S18_PRESET="tiny",
        S18_DATA=str(shared_store),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(registry),
    )
    versions, where, records = json.loads(cells[-1].outputs[0].text)
    assert versions == {name: metadata.version(name) for name in KEPT}
    assert Path(where).is_relative_to(tmp_path / "machine")
    assert set(records) >= set(EXPERIMENTS)
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []


def test_on_kaggle_without_a_network_wheels_and_data_are_found_among_the_inputs(
    machine, repository, registry, tmp_path
):
    inputs, working = tmp_path / "input", tmp_path / "working"
    working.mkdir()
    wheels = shutil.copytree(registry, inputs / "s18-wheels" / "wheels")
    build = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", f"--wheel-dir={wheels}", repository]
    subprocess.run(build, check=True, env=no_network(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(registry)))
    digits = {f"x_{split}": np.zeros((10, 28, 28), np.uint8) for split in ("train", "test")}
    labels = {f"y_{split}": np.arange(10) for split in ("train", "test")}
    (inputs / "mnist").mkdir()
    np.savez(inputs / "mnist" / "mnist.npz", **digits, **labels)
    python = machine(*PLATFORM)

    cell = SOURCE.replace("/kaggle/input", str(inputs)) + (
        "\nprint('installed')\n"
        "from s18_utils.data import sources\n"
        "from s18_utils.data.dataset import open_data\n"
        f"sources.KAGGLE_INPUT = Path({str(inputs)!r})\n"
        "print(open_data('mnist').source)"
    )
    said, where = run_cell(python, working, cell, S18_DATA=str(working))

    assert where.is_relative_to(tmp_path / "machine")
    assert said.startswith("installed\n")
    assert said.splitlines()[-1] == "kaggle"


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder with as much of the repository as the cell looks for."""
    package = tmp_path / "input" / "datasets" / "s18" / "s18_utils"
    package.mkdir(parents=True)
    for name in ("__init__", "training"):
        (package / f"{name}.py").touch()
    return package.parent


def test_a_clone_among_kaggles_inputs_is_used_as_it_is(machine, clone, tmp_path):
    said, where = run_cell(machine(*KEPT), tmp_path, SOURCE.replace("/kaggle/input", str(tmp_path / "input")))
    assert said == ""
    assert where == clone / "s18_utils" / "__init__.py"


def test_what_a_clone_among_kaggles_inputs_misses_is_installed_without_writing_into_it(
    machine, repository, registry, tmp_path
):
    clone = tmp_path / "input" / "s18"
    shutil.copytree(repository, clone)
    before = sorted(clone.rglob("*"))
    cell = SOURCE.replace("/kaggle/input", str(tmp_path / "input"))
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(registry), "PYTHONDONTWRITEBYTECODE": "1"}
    _, where = run_cell(machine(*PLATFORM), tmp_path, cell, **environment)
    assert where == clone / "s18_utils" / "__init__.py"
    assert sorted(clone.rglob("*")) == before  # pip would build there, and what is read-only it can't


def test_a_checkout_around_the_notebook_is_used_as_it_is(machine, clone):
    (clone / "notebooks").mkdir()
    said, where = run_cell(machine(*KEPT), clone / "notebooks")
    assert said == ""
    assert where == clone / "s18_utils" / "__init__.py"


def test_where_it_can_be_imported_nothing_happens(machine, clone, tmp_path):
    said, where = run_cell(machine(*KEPT), tmp_path, PYTHONPATH=str(clone))
    assert said == ""
    assert where == clone / "s18_utils" / "__init__.py"
