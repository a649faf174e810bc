"""A conditional VAE with its classifiers and judge, end to end: what is trained first, kept, refused and resumed."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import assert_one_sentence, equal, interrupt_in, listing, on_cpu, snapshot, weights, without_seconds
from cvae_stand_ins import SMALL

from s18_utils import cvae_plots, presets, records, training
from s18_utils.cvae import ClassifierModule, CVAEModule
from s18_utils.data import sources
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import Record, read_record
from s18_utils.training import train_or_load

NAME = "cvae-mnist"
HELPERS = ["classifier-mnist", "judge-mnist"]
FIGURES = ["all_labels", "composite", "curves", "matrix", "reconstructions", "samples"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shared_store) -> Path:
    """A folder with the records of a conditional VAE and of its classifiers at `tiny`."""
    out = tmp_path_factory.mktemp("cvae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S18_DATA", str(shared_store))
        patch.setattr(sources, "reachable", lambda url: False)
        train_or_load(NAME, "tiny", out=out)
    return out


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """A copy of those records, to spoil."""
    return shutil.copytree(trained, tmp_path / "copied")


@pytest.fixture
def helpers(trained) -> dict[str, Record]:
    return {"classifier": read_record(trained / HELPERS[0]), "judge": read_record(trained / HELPERS[1])}


def test_classifiers_are_trained_first_and_everything_is_kept(trained):
    assert sorted(path.name for path in trained.iterdir()) == sorted([*HELPERS, NAME])  # and nothing half-done
    record = read_record(trained / NAME)
    assert sorted(path.stem for path in record.folder.glob("*.png")) == FIGURES
    assert {path.name for path in record.folder.iterdir() if path.suffix != ".png"} == {
        "config.json",
        "examples.safetensors",
        "history.csv",
        "metrics.json",
        "weights.safetensors",
    }
    assert [read_record(trained / name).metrics["seeds"] for name in (*HELPERS, NAME)] == [[0], [101], [0]]


def test_the_record_holds_what_was_promised(trained, helpers):
    metrics = read_record(trained / NAME).metrics
    test = metrics["test"]
    assert list(test) == [
        "bits_per_dim",
        "mse",
        "psnr",
        "kl",
        "label_loss",
        "swap_agreement",
        "swap_agreement_blurred",
        "swap_agreement_frozen",
        "same_label_agreement",
        "same_label_agreement_blurred",
        "swap_matrix",
        "survives",
        "classifier_accuracy",
        "judge_accuracy",
        "judge_accuracy_blurred",
    ]
    assert (metrics["experiment"], metrics["preset"], metrics["epochs"]) == (NAME, "tiny", 2)
    assert (metrics["data"]["name"], metrics["data"]["source"], metrics["data"]["test"]) == ("mnist", "synthetic", 1000)
    module = read_record(trained / NAME).model()
    assert metrics["parameters"] == sum(parameter.numel() for parameter in module.vae.parameters())
    # What the classifiers scored by themselves, they score here.
    assert test["classifier_accuracy"] == pytest.approx(helpers["classifier"].metrics["test"]["accuracy"], abs=2e-3)
    assert test["judge_accuracy"] == pytest.approx(helpers["judge"].metrics["test"]["accuracy"], abs=2e-3)
    # The matrix says the same as the two numbers: all classes are equally frequent.
    matrix = torch.tensor(test["swap_matrix"])
    own = torch.eye(10, dtype=torch.bool)
    assert matrix[own].mean().item() == pytest.approx(test["same_label_agreement"], abs=1e-3)
    assert matrix[~own].mean().item() == pytest.approx(test["swap_agreement"], abs=1e-3)


def test_it_learns_to_draw_what_is_asked(trained):
    record = read_record(trained / NAME)
    test = record.metrics["test"]
    assert min(test["classifier_accuracy"], test["judge_accuracy"]) > 0.9
    assert test["swap_agreement"] > 0.6  # by chance: 0.1
    assert test["same_label_agreement"] > 0.6
    assert test["mse"] < 0.1
    assert test["survives"]["ink"]["within_class"] > test["survives"]["ink"]["shuffled_within_class"] + 0.1
    first, last = record.history[0], record.history[-1]
    assert last["val_loss"] < first["val_loss"]
    assert all(math.isfinite(value) for row in record.history for value in row.values())


def test_everything_is_loaded_the_second_time(trained, monkeypatch, capsys):
    monkeypatch.setattr(training, "train_seed", None)  # nothing is to be trained
    before = listing(trained)
    record = train_or_load(NAME, "tiny", out=trained)
    said = capsys.readouterr().out
    assert f"Loaded the record of {NAME}" in said
    assert "epoch 1/" not in said
    assert record.metrics == read_record(trained / NAME).metrics
    assert listing(trained) == before
    for name in HELPERS:
        assert train_or_load(name, "tiny", out=trained).metrics["experiment"] == name


def test_the_frozen_network_inside_is_the_recorded_classifier(trained, helpers):
    inside, recorded = records.load_model(NAME, "tiny", trained).frozen, helpers["classifier"].model().net
    assert equal(inside.state_dict(), recorded.state_dict())
    assert not any(parameter.requires_grad for parameter in inside.parameters())


def test_the_judge_is_no_part_of_the_model(helpers):
    module = EXPERIMENTS[NAME].build(presets.get_preset(NAME, "tiny").module)
    keys = set(module.state_dict())
    module.attach(**helpers)
    judge = module.scores.judge
    assert set(module.state_dict()) == keys
    assert all(net is not judge for net in module.modules())
    assert equal(judge.state_dict(), helpers["judge"].model().net.state_dict())
    assert not judge.training
    assert not any(parameter.requires_grad for parameter in judge.parameters())
    shared = {value.data_ptr() for value in judge.state_dict().values()}
    assert not shared & {value.data_ptr() for value in module.state_dict().values()}
    assert module.scores.frozen is module.frozen


def test_a_record_scores_again_as_it_did(trained):
    record = read_record(trained / NAME)
    module = training.load_trained(record, trained)
    scores = training.score(module, training.build_data(NAME, "tiny"))
    assert scores["swap_matrix"] == record.metrics["test"]["swap_matrix"]
    assert scores["mse"] == pytest.approx(record.metrics["test"]["mse"], rel=1e-4)


def spoil_judge(folder: Path, accuracy: float) -> None:
    file = folder / "judge-mnist" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["test"]["accuracy"] = accuracy
    file.write_text(json.dumps(metrics))


@pytest.mark.parametrize("retrain", [False, True])
def test_a_judge_no_better_than_chance_is_refused_and_nothing_is_written(copied, retrain):
    spoil_judge(copied, 0.11)
    if not retrain:
        shutil.rmtree(copied / NAME)
    before = listing(copied)
    with pytest.raises(InputError) as caught:
        train_or_load(NAME, "tiny", out=copied, retrain=retrain)
    assert_one_sentence(str(caught.value), "the judge reads 11.0% of 1000 test images", "no better than chance")
    assert listing(copied) == before


def test_a_refused_judge_leaves_an_interrupted_run_to_be_resumed(copied, tiny_cvae, monkeypatch):
    interrupt_in(monkeypatch, CVAEModule, 1, batch=3)
    train_or_load(NAME, "tiny", out=copied, retrain=True)
    before = listing(copied)
    spoil_judge(copied, 0.1)
    with pytest.raises(InputError):
        train_or_load(NAME, "tiny", out=copied, resume=True)
    spoil_judge(copied, 1.0)
    assert listing(copied).keys() == before.keys()
    assert not train_or_load(NAME, "tiny", out=copied, resume=True).metrics["interrupted"]


def test_a_frozen_network_of_another_architecture_is_refused(helpers):
    module = CVAEModule(**SMALL)  # with narrower layers than the record's
    before = snapshot(module)
    with pytest.raises(InputError) as caught:
        module.attach(**helpers)
    assert_one_sentence(str(caught.value), "the classifier in", "another architecture", "train it again")
    assert equal(module.state_dict(), before)
    assert module.scores is None


def test_judge_and_classifier_cannot_be_mixed_up(helpers):
    module = EXPERIMENTS[NAME].build(presets.get_preset(NAME, "tiny").module)
    with pytest.raises(InputError, match="another architecture"):
        module.attach(classifier=helpers["judge"], judge=helpers["classifier"])


@pytest.mark.parametrize("change", [{"latent": 12}, {"encoder_widths": [16, 32]}, {"decoder_depth": 1}])
def test_a_record_of_another_architecture_is_refused(copied, change):
    file = copied / NAME / "config.json"
    config = json.loads(file.read_text())
    config["module"] |= change
    file.write_text(json.dumps(config))
    with pytest.raises(InputError) as caught:
        records.load_model(NAME, "tiny", copied)
    assert_one_sentence(str(caught.value), "do not fit its config.json", "delete the folder and train again")


def test_a_record_with_another_classifiers_weights_is_refused(copied):
    shutil.copy(copied / HELPERS[0] / "weights.safetensors", copied / NAME)
    with pytest.raises(InputError) as caught:
        records.load_model(NAME, "tiny", copied)
    assert_one_sentence(str(caught.value), "do not fit its config.json")


@pytest.fixture
def tiny_cvae(monkeypatch) -> None:
    """Makes the conditional VAE at `tiny` smaller still, and draws no figures; the classifiers stay."""
    tiny = presets.PRESETS[NAME]["tiny"]
    settings = tiny.module | {"encoder_widths": [8, 8], "latent_noise": 0.1, "latent_reach": 0.3}
    preset = dataclasses.replace(tiny, epochs=4, batch_size=8, module=settings, limit=60)
    monkeypatch.setitem(presets.PRESETS[NAME], "tiny", preset)
    monkeypatch.setitem(training.FIGURES, "cvae", lambda *arguments: {})


@on_cpu
def test_interrupted_and_resumed_equals_uninterrupted(copied, tiny_cvae, tmp_path, monkeypatch):
    whole = train_or_load(NAME, "tiny", out=shutil.copytree(copied, tmp_path / "whole"), retrain=True)
    for epoch in (1, 2):
        interrupt_in(monkeypatch, CVAEModule, epoch, batch=3)
        stopped = train_or_load(NAME, "tiny", out=copied, retrain=epoch == 1, resume=epoch > 1)
        assert stopped.metrics["interrupted"]
        assert stopped.metrics["epochs"] == epoch
    resumed = train_or_load(NAME, "tiny", out=copied, resume=True)
    assert not resumed.metrics["interrupted"]
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert equal(weights(resumed), weights(whole))
    assert resumed.metrics["test"] == whole.metrics["test"]


def test_an_interrupted_helper_stops_the_experiment_and_goes_on_next_time(tmp_path, monkeypatch, tiny_cvae):
    step, left = ClassifierModule.training_step, [1]

    def stop(module, batch, batch_idx):
        if left[0] and module.current_epoch == 1 and "DigitJudge" in type(module.net).__name__:
            left[0] = 0
            raise KeyboardInterrupt
        return step(module, batch, batch_idx)

    monkeypatch.setattr(ClassifierModule, "training_step", stop)
    monkeypatch.setitem(training.FIGURES, "classifier", lambda *arguments: {})
    with pytest.raises(KeyboardInterrupt, match="while training judge-mnist: run this again to go on"):
        train_or_load(NAME, "tiny", out=tmp_path)
    assert not (tmp_path / NAME).exists()
    assert read_record(tmp_path / HELPERS[1]).metrics["interrupted"]
    record = train_or_load(NAME, "tiny", out=tmp_path)
    assert record.metrics["test"]["judge_accuracy"] > 0.9
    judge = read_record(tmp_path / HELPERS[1])
    assert not judge.metrics["interrupted"]
    assert [row["epoch"] for row in judge.history] == [1, 2, 3, 4]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_the_cifar_experiment_runs_from_end_to_end(tmp_path, monkeypatch):
    drawn_figures, draw = [], cvae_plots.figures
    # Drawn, but not written, which takes longer than the training.
    monkeypatch.setitem(training.FIGURES, "cvae", lambda *arguments: drawn_figures.append(draw(*arguments)) or {})
    monkeypatch.setitem(training.FIGURES, "classifier", lambda *arguments: {})
    for name, epochs in (("classifier-cifar10", 3), ("judge-cifar10", 8), ("cvae-cifar10", 1)):
        shorter = dataclasses.replace(presets.PRESETS[name]["tiny"], epochs=epochs)
        monkeypatch.setitem(presets.PRESETS[name], "tiny", shorter)
    record = train_or_load("cvae-cifar10", "tiny", out=tmp_path)
    assert record.metrics["test"]["survives"].keys() == {"colour_layout"}
    assert [sorted(figures) for figures in drawn_figures] == [FIGURES]
    drawn = record.model().swap(torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2]), torch.tensor([9, 9, 9]))
    assert drawn.shape == (3, 3, 32, 32)
