"""A conditional VAE with its frozen CNN and judges, end to end: what is trained first, kept, refused and resumed."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import equal, interrupt_in, listing, on_cpu, refused, weights, without_seconds

from s18_utils import records, training
from s18_utils.cvae.classifier_module import ClassifierModule
from s18_utils.cvae.module import CVAEModule
from s18_utils.cvae.variety import PAINTERS, SCORES
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import Record, read_record
from s18_utils.training import train_or_load

NAME = "cvae-mnist"
NETWORKS = ["classifier-mnist", "judge-mnist", "second-judge-mnist"]
FIGURES = ["all_labels", "composite", "curves", "matrix", "quiz", "reconstructions", "samples", "variety"]


@pytest.fixture
def copied(trained_cvae, tmp_path) -> Path:
    """A copy of those records, to spoil."""
    return shutil.copytree(trained_cvae, tmp_path / "copied")


@pytest.fixture
def networks(trained_cvae) -> dict[str, Record]:
    return {name: read_record(trained_cvae / name) for name in NETWORKS}


def test_networks_are_trained_first_and_everything_is_kept(trained_cvae):
    assert sorted(path.name for path in trained_cvae.iterdir()) == sorted([*NETWORKS, NAME])  # and nothing half-done
    record = read_record(trained_cvae / NAME)
    assert set(FIGURES) <= {path.stem for path in record.folder.glob("*.png")}
    files = {"config.json", "examples.safetensors", "history.csv", "metrics.json", "weights.safetensors"}
    assert {path.name for path in record.folder.iterdir() if path.suffix != ".png"} == files
    assert len({tuple(read_record(trained_cvae / name).metrics["seeds"]) for name in NETWORKS}) == 3


def test_the_record_holds_what_was_promised(trained_cvae, networks):
    record = read_record(trained_cvae / NAME)
    test = record.test
    assert (record.experiment, record.preset, record.metrics["epochs"]) == (NAME, "tiny", 2)
    assert (record.data["name"], record.data["source"], record.data["test"]) == ("mnist", "synthetic", 500)
    # What the networks scored by themselves, they score here.
    own = test["judges"]
    assert list(own) == ["judge", "second_judge"]
    for name, accuracy in zip(
        NETWORKS, (test["classifier_accuracy"], *(each["accuracy"] for each in own.values())), strict=True
    ):
        assert accuracy == pytest.approx(networks[name].test["accuracy"], abs=3e-3)
    assert test["swap_agreement"] <= min(each["swap_agreement"] for each in own.values())
    # The matrix says the same as the two numbers: all classes are equally frequent.
    matrix, diagonal = torch.tensor(test["swap_matrix"]), torch.eye(10, dtype=torch.bool)
    assert matrix[diagonal].mean().item() == pytest.approx(test["same_label_agreement"], abs=1e-3)
    assert matrix[~diagonal].mean().item() == pytest.approx(test["swap_agreement"], abs=1e-3)
    assert list(test["variety"]) == list(PAINTERS)
    assert all(test["variety"][painter][score] >= 0 for painter in PAINTERS for score in SCORES)
    assert test["variety"]["real"]["coverage"] > test["variety"]["template"]["coverage"]


def test_it_learns_to_draw_what_is_asked(trained_cvae):
    record = read_record(trained_cvae / NAME)
    test = record.test
    assert min(test["classifier_accuracy"], *(each["accuracy"] for each in test["judges"].values())) > 0.9
    assert test["judges"]["judge"]["swap_agreement"] > 0.6  # by chance: 0.1
    assert min(test["swap_agreement"], test["same_label_agreement"]) > 0.15  # as no two judges read by chance
    assert test["mse"] < 0.1
    assert test["survives"]["ink"]["within_class"] > test["survives"]["ink"]["shuffled_within_class"] + 0.1
    assert record.history[-1]["val_loss"] < record.history[0]["val_loss"]
    assert all(math.isfinite(value) for row in record.history for value in row.values())


def test_everything_is_loaded_the_second_time(trained_cvae, monkeypatch, capsys):
    monkeypatch.setattr(training, "train_seed", None)  # nothing is to be trained
    before = listing(trained_cvae)
    record = train_or_load(NAME, "tiny", out=trained_cvae)
    said = capsys.readouterr().out
    assert f"Loaded the record of {NAME}" in said
    assert "epoch 1/" not in said
    assert record.metrics == read_record(trained_cvae / NAME).metrics
    assert listing(trained_cvae) == before
    for name in NETWORKS:
        assert train_or_load(name, "tiny", out=trained_cvae).experiment == name


def test_a_record_gives_its_networks_back(trained_cvae, networks):
    module = read_record(trained_cvae / NAME).model()
    assert equal(module.frozen.state_dict(), networks[NETWORKS[0]].model().net.state_dict())
    assert not any(parameter.requires_grad for parameter in module.frozen.parameters())
    for judge, name in zip(module.judges, NETWORKS[1:], strict=True):
        assert equal(judge.state_dict(), networks[name].model().net.state_dict())


def test_a_record_scores_again_as_it_did(trained_cvae):
    record = read_record(trained_cvae / NAME)
    scores = training.score_record(record, training.build_data(NAME, "tiny"))
    assert scores["swap_matrix"] == record.test["swap_matrix"]
    assert scores["mse"] == pytest.approx(record.test["mse"], rel=1e-4)
    assert scores["variety"]["swapped"]["by_class"] == record.test["variety"]["swapped"]["by_class"]


def test_a_record_is_not_scored_by_one_judge_alone(copied):
    shutil.rmtree(copied / NETWORKS[1])
    with refused(f"can't be scored without {NETWORKS[1]}"):
        training.score_record(read_record(copied / NAME), training.build_data(NAME, "tiny"))


def test_a_trade_off_of_other_settings_is_made_anew(trained_cvae, tmp_path, tiny_cvae, monkeypatch):
    shutil.copytree(trained_cvae, tmp_path / "tiny")
    monkeypatch.setenv("S18_RUNS", str(tmp_path))
    for name, value in {"label_weights": (0.0, 20.0), "seeds": 2, "limit": 256, "epochs": 1}.items():
        monkeypatch.setitem(EXPERIMENTS[NAME].tradeoff, name, value)

    def measure() -> list[Record]:
        return training.train_tradeoff(NAME, "tiny", tmp_path / "tradeoff")

    first = measure()
    assert [(record.settings.label_weight, record.settings.epochs) for record in first] == [(0.0, 1), (20.0, 1)]
    assert [len(record.metrics["seeds"]) for record in first] == [2, 2]
    train_seed = training.train_seed
    monkeypatch.setattr(training, "train_seed", None)  # nothing is to be trained
    assert [record.metrics for record in measure()] == [record.metrics for record in first]
    (first[0].folder / "weights.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(records, "PUBLISHED", tmp_path)  # where scores are enough
        assert [record.metrics for record in measure()] == [record.metrics for record in first]
    monkeypatch.setitem(EXPERIMENTS[NAME].block, "latent_noise", 0.2)
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_whole", lambda *arguments, **options: None)  # refuses: it is of another preset
        training.train_tradeoff(NAME, "quick", tmp_path / "tradeoff")
    assert first[0].folder.exists()
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):  # but now it would be
        measure()
    assert [read_record(record.folder).metrics for record in first] == [record.metrics for record in first]
    monkeypatch.setattr(training, "train_seed", train_seed)
    assert [record.settings.latent_noise for record in measure()] == [0.2, 0.2]
    assert sorted(path.name for path in (tmp_path / "tradeoff").iterdir()) == [record.folder.name for record in first]


def test_a_network_of_other_settings_says_how_it_is_replaced(copied, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS[NAME].block["judge"], "epochs", 7)
    with refused("epochs=4 instead of 7", f"fit {NETWORKS[1]} --retrain`"):  # which the model's own retrain does not
        train_or_load(NAME, "tiny", out=copied, retrain=True)


@pytest.mark.parametrize(("judge", "retrain"), [(NETWORKS[1], False), (NETWORKS[2], True)])
def test_a_judge_no_better_than_chance_is_refused_and_nothing_is_written(copied, retrain, judge):
    spoil_judge(copied / judge, 0.11)
    if not retrain:
        shutil.rmtree(copied / NAME)
    before = listing(copied)
    with refused("judge reads 11.0% of 500 test images", "no better than chance"):
        train_or_load(NAME, "tiny", out=copied, retrain=retrain)
    assert listing(copied) == before


def spoil_judge(folder: Path, accuracy: float) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"]["accuracy"] = accuracy
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def tiny_cvae(monkeypatch, undrawn) -> None:
    """Makes the conditional VAE at `tiny` smaller still, and draws no figures; its networks stay."""
    smaller = {"epochs": 4, "batch_size": 8, "encoder_widths": (8, 8), "latent_noise": 0.1, "latent_reach": 0.3}
    for name, value in smaller.items():
        monkeypatch.setitem(EXPERIMENTS[NAME].block, name, value)


@on_cpu
def test_interrupted_and_resumed_equals_uninterrupted(copied, tiny_cvae, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "answers", lambda kept, config, *rest: config["family"] == "classifier")
    few = {"limit": 60, "name": "few"}
    # Of the data's first images the networks are taken as they are.
    monkeypatch.setattr(training, "train_whole", lambda network, *rest, **options: read_record(copied / network))
    whole = train_or_load(NAME, "tiny", out=tmp_path / "whole", **few)
    for epoch in (1, 2):
        interrupt_in(monkeypatch, CVAEModule, epoch, batch=3)
        stopped = train_or_load(NAME, "tiny", out=copied, **few)
        assert stopped.metrics["interrupted"]
        assert stopped.metrics["epochs"] == epoch
    resumed = train_or_load(NAME, "tiny", out=copied, **few)
    assert not resumed.metrics["interrupted"]
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert equal(weights(resumed), weights(whole))
    assert resumed.test == whole.test


def test_an_interrupted_network_stops_the_experiment_and_goes_on_next_time(copied, monkeypatch, undrawn):
    monkeypatch.setitem(EXPERIMENTS[NAME].block, "epochs", 1)
    for name in (NAME, NETWORKS[1]):  # the others are there already
        shutil.rmtree(copied / name)
    interrupt_in(monkeypatch, ClassifierModule, 1, batch=0)
    with pytest.raises(KeyboardInterrupt, match="while training judge-mnist: run this again to go on"):
        train_or_load(NAME, "tiny", out=copied)
    assert not (copied / NAME).exists()
    assert read_record(copied / NETWORKS[1]).metrics["interrupted"]
    record = train_or_load(NAME, "tiny", out=copied)
    assert record.test["judges"]["judge"]["accuracy"] > 0.9
    judge = read_record(copied / NETWORKS[1])
    assert not judge.metrics["interrupted"]
    assert [row["epoch"] for row in judge.history] == [1, 2, 3, 4]
    assert sorted(path.name for path in copied.iterdir() if path.name.startswith(".")) == []
