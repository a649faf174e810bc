"""Training end to end: what is kept, loaded, refused, resumed, interrupted and learned."""

import contextlib
import math

import pytest
import torch
from conftest import (
    assert_one_sentence,
    equal,
    listing,
    names,
    on_cpu,
    sample_history,
    sample_metrics,
    weights,
    without_seconds,
)

from s18_utils import presets, records, trainer, training
from s18_utils.data import pets
from s18_utils.data.batches import StoreData
from s18_utils.device import device
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.progress import FiniteLoss, History
from s18_utils.records import Record, write_record
from s18_utils.seed_run import halved
from s18_utils.training import train_or_load
from s18_utils.unet import UNetModule

NAME = "unet-maxpool-transpose-bce"
DICE = "unet-strided-upsample-dice"
UNETS = [name for name, row in EXPERIMENTS.items() if row.family == "unet"]
pytestmark = pytest.mark.usefixtures("small")


@pytest.mark.parametrize("name", UNETS)
def test_a_run_from_end_to_end(name, tmp_path, capsys):
    record = train_or_load(name, "tiny", out=tmp_path)
    assert names(tmp_path) == [name]  # nothing but the record
    assert names(record.folder) == [
        "config.json",
        "curves.png",
        "extremes.png",
        "history.csv",
        "metrics.json",
        "predictions.png",
        "weights.safetensors",
    ]
    metrics = record.metrics
    assert metrics["data"] == {
        "name": "pets",
        "source": "synthetic",
        "size": 32,
        "train": 22,
        "val": 2,
        "test": 24,
        "fingerprint": metrics["data"]["fingerprint"],
    }
    assert (metrics["preset"], metrics["epochs"], metrics["seeds"]) == ("tiny", 2, [0])
    assert (metrics["interrupted"], metrics["spread"]) == (False, {})
    assert metrics["parameters"] == sum(parameter.numel() for parameter in record.model().parameters())
    assert [(row["seed"], row["epoch"]) for row in record.history] == [(0, 1), (0, 2)]
    assert all(math.isfinite(value) for row in record.history for value in row.values())
    test = metrics["test"]
    assert test["mean_iou"] == pytest.approx(sum(test["iou"].values()) / 3)
    assert 0 <= test["mean_iou"] < test["mean_dice"] <= 1
    best = max(record.history, key=lambda row: row["val_mean_iou"])
    assert metrics["validation"] == {key: value for key, value in best.items() if key.startswith("val_")}
    output = capsys.readouterr().out
    assert "Synthetic pets, drawn by s18_utils, no photographs: 22 training" in output
    model = UNetModule(**EXPERIMENTS[name].model, width=4)
    assert record.model().load_state_dict(model.state_dict())  # the experiment's own variant


def test_a_record_is_loaded_instead_of_trained_again(trained, tmp_path, capsys):
    first = train_or_load(NAME, "tiny", out=tmp_path)
    before = listing(tmp_path)
    capsys.readouterr()
    again = train_or_load(NAME, "tiny", out=tmp_path)
    assert trained == [0]
    assert listing(tmp_path) == before
    assert again.metrics == first.metrics
    assert again.history == first.history
    assert "Loaded" in capsys.readouterr().out


def test_retrain_trains_again(trained, tmp_path):
    train_or_load(NAME, "tiny", out=tmp_path)
    train_or_load(NAME, "tiny", out=tmp_path, retrain=True)
    assert trained == [0, 0]
    assert names(tmp_path) == [NAME]


def test_runs_are_kept_by_preset_unless_told_otherwise(tmp_path):
    assert train_or_load(NAME, "tiny").folder == tmp_path / "runs" / "tiny" / NAME


@pytest.mark.parametrize(
    "change",
    [{"epochs": 1}, {"module": {"width": 6, "learning_rate": 4e-3}}, {"size": 16}, {"limit": 20}, {"batch_size": 4}],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_are_trained_anew(small, trained, tmp_path, change):
    train_or_load(NAME, "tiny", out=tmp_path)
    preset = small(**change)
    record = train_or_load(NAME, "tiny", out=tmp_path)
    assert trained == [0, 0]
    assert record.metrics["epochs"] == preset.epochs
    assert record.config["module"] == preset.module


def test_another_experiment_has_a_record_of_its_own(trained, tmp_path):
    train_or_load(NAME, "tiny", out=tmp_path)
    train_or_load(DICE, "tiny", out=tmp_path)
    assert trained == [0, 0]
    assert names(tmp_path) == sorted([NAME, DICE])


def test_other_data_are_trained_on_anew(trained, tmp_path, pets_folder, small):
    small(limit=None, batch_size=2, source="auto")
    train_or_load(NAME, "tiny", out=tmp_path / "a")
    train_or_load(NAME, "tiny", out=tmp_path / "a", source="torchvision")  # the same bytes by another way
    assert trained == [0]
    (pets_folder / "annotations" / "trainval.txt").write_text("train_0 1 1 1\ntrain_1 1 1 1\ntrain_2 1 1 1\n")
    record = train_or_load(NAME, "tiny", out=tmp_path / "a")
    assert trained == [0, 0]
    assert record.metrics["data"]["train"] == 2


def test_without_data_a_record_from_real_data_serves(trained, tmp_path, pets_folder, small, monkeypatch, capsys):
    small(limit=None, batch_size=2, source="auto")
    real = train_or_load(NAME, "tiny", out=tmp_path / "a")
    monkeypatch.setenv("S18_DATA", str(tmp_path / "nothing-here"))
    monkeypatch.setattr(pets, "SYNTHETIC", {"train": 8, "test": 4})
    record = train_or_load(NAME, "tiny", out=tmp_path / "a")
    assert trained == [0]
    assert record.metrics == real.metrics
    # Nor does another copy of the set make the repository's own record worthless.
    monkeypatch.setenv("S18_DATA", str(pets_folder.parent))
    (pets_folder / "annotations" / "trainval.txt").write_text("train_0 1 1 1\ntrain_1 1 1 1\ntrain_2 1 1 1\n")
    monkeypatch.setattr(records, "PUBLISHED", tmp_path / "a")
    assert train_or_load(NAME, "tiny", out=tmp_path / "a").metrics == real.metrics
    assert trained == [0]
    # Synthetic data that were asked for by name are not replaced by anything.
    assert train_or_load(NAME, "tiny", out=tmp_path / "a", source="synthetic").synthetic
    assert trained == [0, 0]


def test_a_record_of_another_preset_is_not_overwritten(small, trained, tmp_path, monkeypatch):
    train_or_load(NAME, "tiny", out=tmp_path)
    monkeypatch.setitem(presets.PRESETS["unet"], "quick", presets.PRESETS["unet"]["tiny"])
    before = listing(tmp_path)
    with pytest.raises(InputError) as caught:
        train_or_load(NAME, "quick", out=tmp_path)
    assert_one_sentence(str(caught.value), "holds a record of preset tiny", "choose another folder")
    assert listing(tmp_path) == before
    assert trained == [0]
    assert train_or_load(NAME, "quick", out=tmp_path, retrain=True).metrics["preset"] == "quick"


@on_cpu
def test_several_seeds_give_mean_and_spread(tmp_path, monkeypatch):
    runs, train_seed = [], training.train_seed
    monkeypatch.setattr(training, "train_seed", lambda *arguments: runs.append(train_seed(*arguments)) or runs[-1])
    record = train_or_load(NAME, "tiny", seeds=3, out=tmp_path)
    assert record.metrics["seeds"] == [run.seed for run in runs] == [0, 1, 2]
    assert [row["seed"] for row in record.history] == [0, 0, 1, 1, 2, 2]
    test, spread = record.metrics["test"], record.metrics["spread"]
    assert test.keys() == spread.keys()
    assert test["iou"].keys() == spread["iou"].keys()
    losses = [run.test["loss"] for run in runs]
    assert len(set(losses)) == 3  # seeds differ
    mean = sum(losses) / 3
    assert test["loss"] == pytest.approx(mean, rel=1e-9)
    assert spread["loss"] == pytest.approx(math.sqrt(sum((loss - mean) ** 2 for loss in losses) / 2), rel=1e-6)
    # The weights kept are the first seed's, and it is trained alike whether alone or among others.
    single = train_or_load(NAME, "tiny", out=tmp_path / "single")
    assert equal(weights(record), weights(single))
    assert single.metrics["test"] == runs[0].test
    assert without_seconds(record.history)[:2] == without_seconds(single.history)


@on_cpu
@pytest.mark.parametrize("name", [NAME, DICE])
def test_the_same_seed_gives_the_same_result(name, tmp_path):
    first, again = (train_or_load(name, "tiny", out=tmp_path / folder) for folder in "ab")
    assert without_seconds(first.history) == without_seconds(again.history)
    assert equal(weights(first), weights(again))
    assert first.metrics["test"] == again.metrics["test"]


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path, monkeypatch, epoch, value):
    start = UNetModule.training_step

    def step(module, batch, batch_idx):
        loss = start(module, batch, batch_idx)
        return loss * value if (module.current_epoch, batch_idx) == (epoch, 1) else loss

    monkeypatch.setattr(UNetModule, "training_step", step)
    with pytest.raises(FloatingPointError) as caught:
        train_or_load(NAME, "tiny", out=tmp_path)
    assert_one_sentence(str(caught.value), f"in epoch {epoch + 1}, step 2", "with a learning rate below 0.004")
    assert ("nan" in str(caught.value)) == math.isnan(value)
    assert listing(tmp_path) == {}


def test_a_loss_that_blows_up_by_itself_ends_the_run(small, tmp_path):
    small(module={"width": 4, "learning_rate": 1e30}, epochs=3)
    with pytest.raises(FloatingPointError, match="train again with a learning rate below 1e\\+30"):
        train_or_load(DICE, "tiny", out=tmp_path)


def test_an_old_record_survives_a_run_that_fails(tmp_path, monkeypatch):
    train_or_load(NAME, "tiny", out=tmp_path)
    before = listing(tmp_path)
    monkeypatch.setattr(FiniteLoss, "on_train_batch_end", lambda *arguments: raise_floating_point())
    with pytest.raises(FloatingPointError):
        train_or_load(NAME, "tiny", out=tmp_path, retrain=True)
    assert listing(tmp_path) == before


def raise_floating_point() -> None:
    raise FloatingPointError("the loss became nan: stop")


@pytest.mark.parametrize("best", [1, 2, 3])
def test_the_best_epochs_weights_are_kept(small, tmp_path, monkeypatch, best):
    # The validation score is made up, so that epoch `best` wins; the weights at its end are caught on the way.
    small(epochs=3)
    caught, start = {}, UNetModule.on_validation_epoch_end

    def end(module):
        start(module)
        epoch = module.current_epoch + 1
        score = 0.9 if epoch == best else 0.1 * epoch
        module.trainer.callback_metrics["val_mean_iou"] = torch.tensor(score)
        module.log("val_mean_iou_made_up", score)
        caught[epoch] = {name: halved(tensor.clone()) for name, tensor in module.state_dict().items()}

    @contextlib.contextmanager
    def made_up():
        monkeypatch.setattr(UNetModule, "on_validation_epoch_end", end)
        monkeypatch.setattr(UNetModule, "monitor", ("val_mean_iou_made_up", "max"))
        yield

    with made_up():
        record = train_or_load(NAME, "tiny", out=tmp_path)
    kept = weights(record)
    assert equal(kept, {name: tensor for name, tensor in caught[best].items() if name in kept})
    assert not any(equal(kept, caught[epoch]) for epoch in caught if epoch != best)
    assert record.metrics["validation"]["val_mean_iou_made_up"] == pytest.approx(0.9)


def test_the_test_split_is_touched_once_and_at_the_end(tmp_path, monkeypatch):
    order = []
    for stage in ("train", "val", "test"):
        loader = getattr(StoreData, f"{stage}_dataloader")
        monkeypatch.setattr(
            StoreData,
            f"{stage}_dataloader",
            lambda self, stage=stage, loader=loader: order.append(stage) or loader(self),
        )
    train_or_load(NAME, "tiny", out=tmp_path)
    assert order.count("test") == 1
    assert order[-1] == "test"


def test_history_survives_as_a_callback(tmp_path):
    history = History("title", 0)
    history.load_state_dict({"rows": [{"seed": 0, "epoch": 1, "seconds": 1.25, "train_loss": 0.5, "val_loss": 0.25}]})
    history.total = 3
    assert history.state_dict()["rows"] == history.rows
    assert history.last_line() == "title: epoch 1/3, 1.2 s, train loss 0.5, val loss 0.25"
    page = history.html()
    assert page.count("<tr>") == 2
    assert "<td>1 / 3</td><td>1.2</td><td>0.5000</td><td>0.2500</td>" in page


def test_a_line_an_epoch_outside_a_terminal(tmp_path, capsys):
    train_or_load(NAME, "tiny", out=tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if ": epoch " in line]
    assert [line.split(": epoch ")[1].split(",")[0] for line in lines] == ["1/2", "2/2"]


def constant_background(data: StoreData) -> float:
    """mIoU of calling everything background: a third of the share of background."""
    return (data.test.tensors["mask"][data.test.rows] == 1).float().mean().item() / 3


def learns(small, tmp_path, least: float, **settings) -> None:
    small(size=48, epochs=6, batch_size=16, limit=400, module={"width": 8, "learning_rate": 8e-3}, **settings)
    data = training.build_data(DICE, "tiny")
    record = train_or_load(DICE, "tiny", out=tmp_path)
    assert record.metrics["test"]["mean_iou"] > constant_background(data) + least
    assert min(record.metrics["test"]["iou"].values()) > 0.05  # not only the frequent class
    losses = [row["train_loss"] for row in record.history]
    assert losses[-1] < 0.85 * losses[0]


def test_it_learns_on_synthetic_pets(small, tmp_path):
    learns(small, tmp_path, least=0.15)


def test_it_learns_on_real_pets(small, tmp_path, real_data):
    learns(small, tmp_path, least=0.12, source="local")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"experiment": "unet"}, ("unknown experiment 'unet'", NAME, DICE)),
        ({"preset": "huge"}, ("unknown preset 'huge'", "tiny, quick, full")),
        ({"source": "web"}, ("unknown source 'web'", "choose one of auto, local, kaggle", "synthetic")),
        ({"seeds": 0}, ("not 0", "use 1 or more")),
        ({"seeds": -2}, ("not -2", "use 1 or more")),
    ],
)
def test_a_wrong_name_or_number_is_refused(tmp_path, arguments, parts):
    with pytest.raises(InputError) as caught:
        train_or_load(**{"experiment": NAME, "preset": "tiny", "out": tmp_path / "out", **arguments})
    assert_one_sentence(str(caught.value), *parts)
    assert not (tmp_path / "out").exists()


def test_the_preset_comes_from_the_environment_or_the_device(monkeypatch):
    assert presets.default_preset() == ("full" if device().type == "cuda" else "quick")
    monkeypatch.setenv("S18_PRESET", "tiny")
    assert presets.default_preset() == "tiny"
    monkeypatch.setenv("S18_PRESET", "huge")
    with pytest.raises(InputError, match="unknown preset 'huge': choose one of tiny, quick, full"):
        presets.default_preset()


def test_published_weights_at_full_make_full_the_preset(monkeypatch, tmp_path):
    monkeypatch.setattr(presets, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(presets, "PUBLISHED", tmp_path)
    for preset, kept, expected in (("full", "kept", "full"), ("quick", "kept", "quick"), ("full", "", "quick")):
        write_record(Record(tmp_path / NAME, sample_metrics(preset=preset), sample_history()), {}, {}, {})
        if kept:
            (tmp_path / NAME / "weights.safetensors").touch()
        assert presets.default_preset(NAME) == expected
        assert presets.default_preset() == presets.default_preset("unet-strided-upsample-dice") == "quick"


def test_every_preset_of_the_unets_can_be_built():
    for preset in presets.PRESET_NAMES:
        for name in UNETS:
            settings = presets.get_preset(name, preset)
            with torch.device("meta"):
                module = EXPERIMENTS[name].build(settings.module)
            assert module.hparams["learning_rate"] == settings.module["learning_rate"]
    assert presets.get_preset(NAME, "full").module["width"] == 64


def test_precision_is_one_that_the_device_has(monkeypatch):
    assert trainer.precision() in ("bf16-mixed", "16-mixed", "32-true")
    monkeypatch.setattr(trainer, "device", lambda: torch.device("cpu"))
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: False, raising=False)
    assert trainer.precision() == "32-true"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert trainer.precision() == "bf16-mixed"
    monkeypatch.setattr(trainer, "device", lambda: torch.device("cuda"))
    for capability, precision in (((9, 0), "bf16-mixed"), ((8, 0), "bf16-mixed"), ((7, 5), "16-mixed")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda gpu, capability=capability: capability)
        assert trainer.precision() == precision
