"""Publishing: what is trained and what is not, and that everything drawn from the records is written anew."""

import json
from pathlib import Path

import nbformat
import pytest
from conftest import refused, sample_metrics

from s18_utils import notebooks, records, training
from s18_utils import publish as publishing
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.publish import SEEDS, publish
from s18_utils.records import read_record
from s18_utils.report.readme import SECTIONS
from s18_utils.report.style import new_figure

NAME, DICE = "unet-maxpool-transpose-bce", "unet-maxpool-transpose-dice"


@pytest.fixture
def repository(small, tmp_path, monkeypatch) -> Path:
    """A repository with a README, two notebooks that print what they were run with, and no records."""
    folder = tmp_path / "repository"
    (folder / "notebooks").mkdir(parents=True)
    marks = "<!-- results {}: written by python -m s18_utils readme -->\nold\n<!-- end of results -->\n"
    (folder / "README.md").write_text("".join(marks.format(family) for family in SECTIONS))
    for name in (NAME, DICE):
        cell = nbformat.v4.new_code_cell(
            "import os\nprint(os.environ['S18_PRESET'], os.listdir(os.environ['S18_RUNS']))"
        )
        file = folder / "notebooks" / f"{EXPERIMENTS[name].notebook}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), file)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder / "notebooks")
    monkeypatch.setattr(records, "PUBLISHED", folder / "figures")
    return folder


def outputs(file: Path) -> str:
    cells = json.loads(file.read_text())["cells"]
    return "".join("".join(output["text"]) for cell in cells for output in cell["outputs"])


def test_everything_is_published_and_nothing_is_trained_twice(repository, trained, drawn):
    assert publish("tiny", [NAME]) == []
    assert trained == [0, 1, 2]
    record = read_record(repository / "figures" / NAME)
    assert record.metrics["seeds"] == [0, 1, 2]
    pictures = sorted(str(path.relative_to(repository)) for path in repository.rglob("*.png"))
    assert pictures == [
        *(f"figures/{NAME}/{name}.png" for name in ("curves", "filmstrip", "hardest", "photographs", "predictions")),
        "figures/unets_by_class.png",
        "figures/unets_side_by_side.png",
    ]
    text = (repository / "README.md").read_text()
    assert f"| tiny | {record.test['mean_iou']:.3f} ± {record.spread['mean_iou']:.3f} |" in text
    first, second = sorted((repository / "notebooks").iterdir())
    assert outputs(first) == "tiny []\n"  # the preset, and no runs but the published ones
    assert outputs(second) == ""

    metrics = (repository / "figures" / NAME / "metrics.json").read_bytes()
    (repository / "figures" / NAME / "hardest.png").unlink()
    publish("tiny", [NAME])
    assert trained == [0, 1, 2]
    assert (repository / "figures" / NAME / "metrics.json").read_bytes() == metrics
    assert (repository / "figures" / NAME / "hardest.png").is_file()  # an old record gets new pictures


def test_predictions_of_several_unets_are_not_drawn_without_their_weights(repository):
    figures = repository / "figures"
    training.train_or_load(NAME, "tiny", out=figures)
    (figures / "unets_side_by_side.png").write_bytes(b"as it was")
    (figures / NAME / "weights.safetensors").unlink()
    publishing.compare_unets("tiny")
    assert (figures / "unets_by_class.png").is_file()
    assert (figures / "unets_side_by_side.png").read_bytes() == b"as it was"


def test_records_of_two_presets_are_published_side_by_side(repository, monkeypatch):
    monkeypatch.setitem(SEEDS, "unet", 1)
    monkeypatch.setattr(publishing, "render", lambda name: True)
    for preset in ("quick", "tiny", "full"):
        publish(preset, [NAME])
    figures = repository / "figures"
    folders = [figures, figures / "tiny", figures / "full"]  # the first has the first place
    assert [read_record(folder / NAME).preset for folder in folders] == ["quick", "tiny", "full"]
    assert all((folder / "unets_by_class.png").is_file() for folder in folders)
    rows = [line for line in (repository / "README.md").read_text().splitlines() if line.startswith("| max pooling")]
    assert [row.split(" | ")[1] for row in rows] == ["tiny", "quick", "full"]


def test_variants_are_published_as_scores_and_trained_once(repository, small, trained, undrawn):
    folder = repository / "figures" / f"{NAME}-references"
    for seeds, now in ((1, [0]), (1, []), (2, [0, 1])):
        trained.clear()
        publishing.train_variant(NAME, "tiny", folder, seeds, {"skip": False})
        assert trained == now
        (folder / f"{NAME}+skip=false" / "weights.safetensors").unlink(missing_ok=True)  # which git leaves out
    assert read_record(folder / f"{NAME}+skip=false").metrics["seeds"] == [0, 1]


def test_trade_offs_are_published_beside_the_records_of_their_preset(repository, monkeypatch):
    measured = []

    def write(folder: Path, preset: str) -> None:
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(sample_metrics(experiment="cvae-mnist", preset=preset)))
        (folder / "history.csv").write_text("seed,epoch\n0,1\n")

    def train_tradeoff(name: str, preset: str, folder: Path) -> list:
        measured.append(folder)
        write(folder / f"{name}+label weight 30", preset)
        return [read_record(folder / f"{name}+label weight 30")]

    monkeypatch.setattr(training, "train_tradeoff", train_tradeoff)
    monkeypatch.setattr("s18_utils.cvae.tradeoff.draw_tradeoff", lambda records: new_figure("")[0])
    figures, name = repository / "figures", "cvae-mnist-tradeoff"
    write(figures / "cvae-mnist", "full")
    write(figures / name / "cvae-mnist+label weight 20", "quick")  # of a list of weights that has changed since
    for preset in ("full", "tiny"):
        publishing.publish_tradeoff("cvae-mnist", preset)
    assert measured == [figures / name, figures / "tiny" / name]
    for folder in measured:
        assert sorted(path.name for path in folder.iterdir()) == ["cvae-mnist+label weight 30", "tradeoff.png"]


def test_a_notebook_that_fails_is_named_and_left_as_it_was(repository, monkeypatch):
    monkeypatch.setitem(SEEDS, "unet", 1)
    file = repository / "notebooks" / f"{EXPERIMENTS[NAME].notebook}.ipynb"
    cells = [nbformat.v4.new_code_cell("raise ValueError('broken on purpose')")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    before = file.read_bytes()
    assert publish("tiny", [NAME]) == [EXPERIMENTS[NAME].notebook]
    assert file.read_bytes() == before
    assert len(list(file.parent.iterdir())) == 2  # nothing is left over


def test_synthetic_data_are_not_published_for_want_of_real_ones(repository, trained, small, data_folder):
    small(source="auto")
    with refused("no real Oxford-IIIT Pet", "S18_DATA"):
        publish("tiny", [NAME])
    assert trained == []
    assert not (repository / "figures").exists()


def test_an_unknown_experiment_is_refused(repository):
    with pytest.raises(InputError, match="unknown experiment 'unet'"):
        publish("tiny", ["unet"])


def test_a_record_of_more_seeds_serves(small, trained, tmp_path):
    training.train_or_load(NAME, "tiny", seeds=2, out=tmp_path)
    for asked, again in ((1, []), (2, []), (3, [0, 1, 2])):
        trained.clear()
        record = training.train_or_load(NAME, "tiny", seeds=asked, out=tmp_path)
        assert trained == again
        assert len(record.metrics["seeds"]) == max(asked, 2)
