"""The command line: the same results as the functions, and one line for what the user can mend."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_one_sentence
from PIL import Image

from s18_utils import notebooks
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import find_record
from s18_utils.report import bench
from s18_utils.report.bench import Measurement
from s18_utils.training import train_or_load
from s18_utils.unet.module import UNetModule

ROOT = Path(__file__).resolve().parent.parent
NAME = "unet-maxpool-transpose-bce"
pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def refused(run):
    """Runs the command line on what can't be done: status 2, and one line that says what to do."""

    def call(words: tuple, *parts: str) -> None:
        status, _, errors = run(*words)
        assert status == 2
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        assert_one_sentence(errors.removeprefix("error: ").strip(), *parts)

    return call


def scores(output: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w[\w ]*?) +(\d\.\d{4})$", output, re.MULTILINE))


def test_list_names_every_experiment(run):
    status, output, _ = run("list")
    assert status == 0
    for row in EXPERIMENTS.values():
        line = next(line for line in output.splitlines() if line.startswith(row.name + " "))
        assert row.title in line
        assert f"notebooks/{row.notebook}.ipynb" in line


def test_nothing_heavy_is_imported_before_it_is_needed():
    command = [sys.executable, "-X", "importtime", "-m", "s18_utils", "list"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "s18_utils.experiments" in imported
    assert imported.isdisjoint({"torch", "lightning", "matplotlib", "numpy"})
    assert NAME in done.stdout


def test_fit_and_evaluate_agree(run, tmp_path):
    status, fitted, errors = run("fit", NAME, "--preset", "tiny", "--out", tmp_path)
    assert (status, errors) == (0, "")
    record = find_record(NAME, "tiny", tmp_path)
    assert f"record: {tmp_path / NAME}" in fitted
    shown = scores(fitted)
    assert shown["mean iou"] == f"{record.metrics['test']['mean_iou']:.4f}"
    assert len(shown) == 11
    status, evaluated, _ = run("evaluate", NAME, "--preset", "tiny", "--records", tmp_path)
    assert status == 0
    assert scores(evaluated) == shown
    assert "not the data of the record" not in evaluated
    assert "synthetic Oxford-IIIT Pet" in evaluated


def test_fit_takes_its_options(run, tmp_path, monkeypatch):
    status, _, _ = run("fit", NAME, "--preset", "tiny", "--out", tmp_path, "--seeds", 2, "--source", "synthetic")
    assert status == 0
    assert find_record(NAME, "tiny", tmp_path).metrics["seeds"] == [0, 1]
    status, output, _ = run("fit", NAME, "--preset", "tiny", "--out", tmp_path, "--seeds", 2)
    assert "Loaded" in output
    status, output, _ = run("fit", NAME, "--preset", "tiny", "--out", tmp_path, "--seeds", 2, "--retrain")
    assert "Loaded" not in output


def test_fit_changes_settings(run, refused, tmp_path):
    options = ("--preset", "tiny", "--out", tmp_path, "--set")
    status, output, errors = run("fit", NAME, *options, "up=bilinear", "--set", "epochs=1")
    assert (status, errors) == (0, "")
    record = find_record(f"{NAME}+epochs=1,up=bilinear", "tiny", tmp_path)
    assert (record.settings.up, record.metrics["epochs"]) == ("bilinear", 1)
    assert run("evaluate", record.folder.name, "--preset", "tiny", "--records", tmp_path)[0] == 0
    faults = {
        "epochs": "write --set label_weight=0",
        "wdith=3": "has no setting wdith",
        "source=synthetic": "given by itself",
        "retrain=true": "given by itself",
    }
    for change, part in faults.items():
        refused(("fit", NAME, *options, change), part)


def test_an_interrupt_before_anything_was_kept(run, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(UNetModule, "training_step", interrupt)
    status, output, errors = run("fit", NAME, "--preset", "tiny", "--out", tmp_path)
    assert status != 0
    assert "nothing was kept" in output
    assert "Traceback" not in errors


def test_evaluate_keeps_to_the_kind_of_data_that_the_record_had(run, tmp_path, pets_folder, small):
    small(source="auto")
    run("fit", NAME, "--preset", "tiny", "--source", "synthetic", "--out", tmp_path)
    record = find_record(NAME, "tiny", tmp_path)
    status, output, _ = run("evaluate", NAME, "--preset", "tiny", "--records", tmp_path)
    assert scores(output)["mean iou"] == f"{record.metrics['test']['mean_iou']:.4f}"
    status, output, _ = run("evaluate", NAME, "--preset", "tiny", "--records", tmp_path, "--source", "local")
    assert status == 0
    assert "Oxford-IIIT Pet from local: 3 training" in output
    assert "These are not the data of the record" in output


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("fit", "unet", "--preset", "tiny"), ("unknown experiment 'unet'", NAME)),
        (("fit", NAME, "--preset", "huge"), ("unknown preset 'huge'", "tiny, quick, full")),
        (("tradeoff", "cvae-mnist", "--preset", "huge"), ("unknown preset 'huge'", "tiny, quick, full")),
        (("fit", NAME, "--preset", "tiny", "--source", "web"), ("unknown source 'web'", "synthetic")),
        (("fit", NAME, "--preset", "tiny", "--source", "local"), ("holds no Oxford-IIIT Pet", "S18_DATA")),
        (("fit", NAME, "--preset", "tiny", "--seeds", "0"), ("not 0", "use 1 or more")),
        (("evaluate", NAME, "--preset", "tiny"), ("there is no record", f"fit {NAME}")),
        (("evaluate", "unet"), ("unknown experiment 'unet'",)),
        (("run", "--only", "unet"), ("unknown experiment 'unet'",)),
    ],
)
def test_what_the_user_can_mend_is_one_line(refused, data_folder, tmp_path, words, parts):
    refused(words, *parts)
    assert not (tmp_path / "runs").exists()


def test_predict_writes_a_mask_and_an_overlay_at_the_photographs_size(run, refused, tmp_path):
    train_or_load(NAME, "tiny", out=tmp_path / "runs")
    photo = tmp_path / "cat.jpg"
    Image.effect_noise((90, 60), 80).convert("RGB").save(photo)
    options = ("--experiment", NAME, "--preset", "tiny", "--records", tmp_path / "runs", "--out", tmp_path / "masks")
    status, output, errors = run("predict", photo, *options)
    assert (status, errors) == (0, "")
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "masks").iterdir()}
    assert sizes == {"cat-mask.png": (90, 60), "cat-overlay.png": (90, 60)}
    assert all(name in output for name in sizes)
    (tmp_path / "notes.txt").write_text("no picture")
    refused(("predict", tmp_path / "notes.txt", *options), "notes.txt")


def test_export_writes_networks_and_a_card(run, tmp_path, trained_cvae):
    options = ("--preset", "tiny", "--records", trained_cvae, "--out", tmp_path / "export")
    assert run("export", "judge-mnist", *options)[0] == 0
    kinds = {path.suffix for path in (tmp_path / "export").rglob("*") if path.is_file()}
    assert {".onnx", ".md"} <= kinds


def test_a_wrong_command_shows_its_usage(run):
    status, _, errors = run("fit", NAME, "--seeds", "x")
    assert status == 2
    assert "Usage" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(("state", "status"), [("done", 0), ("failed", 1)])
def test_a_notebook_that_fails_is_an_exit_status(run, monkeypatch, tmp_path, state, status):
    pages = [notebooks.Page("01", "a"), notebooks.Page("02", "b")]
    pages[0].state, pages[1].state = "done", state
    monkeypatch.setattr(notebooks, "run_notebooks", lambda *arguments: pages)
    assert run("run", "--out", tmp_path)[0] == status


def test_bench_prints_a_table_and_writes_json(run, refused, monkeypatch, tmp_path):
    def measured(name: str) -> Measurement:
        return Measurement(f"about {name}", [{"way": "plain", "ratio": 1.0}, {"way": "ours", "ratio": 2.5}])

    for function, name in (("batches", "data"), ("epochs", "epochs"), ("swaps", "swap")):
        monkeypatch.setattr(bench, f"measure_{function}", lambda name=name: measured(name))
    status, output, _ = run("bench", "--json", tmp_path / "new" / "bench.json")
    assert status == 0
    assert "data: about data" in output
    assert re.search(r"^ours +2.5$", output, re.MULTILINE)
    numbers = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert list(numbers) == ["made by", "device", "data", "epochs", "swap"]
    assert numbers["swap"]["rows"][1] == {"way": "ours", "ratio": 2.5}
    status, output, _ = run("bench", "swap")
    assert "about swap" in output
    assert "about data" not in output
    refused(("bench", "speed"), "unknown measurement 'speed'", "data, epochs, swap")


def test_swap_draws_the_composite_and_prints_the_agreement(run, tmp_path, trained_cvae):
    options = ("--preset", "tiny", "--records", trained_cvae, "--file")
    status, output, errors = run("swap", "cvae-mnist", *options, tmp_path / "here" / "composite.png")
    assert (status, errors) == (0, "")
    metrics = find_record("cvae-mnist", "tiny", trained_cvae).metrics
    assert scores(output)["swap agreement"] == f"{metrics['test']['swap_agreement']:.4f}"
    assert Image.open(tmp_path / "here" / "composite.png").size[0] > 800
    run("swap", "cvae-mnist", *options, tmp_path / "other.png", "--seed", "1")
    first, other = (np.asarray(Image.open(tmp_path / name)) for name in ("here/composite.png", "other.png"))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("experiment", "preset", "file", "parts"),
    [
        (NAME, "tiny", "composite.png", (NAME, "choose cvae-mnist or cvae-cifar10")),
        ("cvae-mnist", "full", "composite.png", ("no record of cvae-mnist", "fit cvae-mnist")),
        ("cvae-mnist", "tiny", "composite.xyz", ("is no picture's name", ".png")),
        ("cvae-mnist", "tiny", "composite", ("is no picture's name", ".png")),
    ],
)
def test_swap_of_or_into_what_does_not_do(refused, tmp_path, experiment, preset, file, parts):
    refused(("swap", experiment, "--preset", preset, "--file", tmp_path / file), *parts)
    assert not (tmp_path / file).exists()
