"""Training end to end: what is kept, loaded, refused, resumed, interrupted and learned."""

import math

import pytest
import torch
from conftest import (
    equal,
    interrupt_in,
    listing,
    names,
    on_cpu,
    refused,
    sample_history,
    sample_metrics,
    weights,
    without_seconds,
)
from PIL import Image

from s18_utils import device as devices
from s18_utils import records, training
from s18_utils.data import pets
from s18_utils.data.batches import StoreData
from s18_utils.data.dataset import open_data
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS, PRESETS, build_settings, get_experiment
from s18_utils.fitting import to_half
from s18_utils.records import Record, build_module
from s18_utils.report.progress import FiniteLoss
from s18_utils.runs import write_record
from s18_utils.training import train_or_load
from s18_utils.unet.module import UNetModule

NAME = "unet-maxpool-transpose-bce"
DICE = "unet-strided-upsample-dice"
pytestmark = pytest.mark.usefixtures("small")


@pytest.mark.parametrize("name", [NAME, DICE])
def test_a_run_from_end_to_end(name, tmp_path, capsys, drawn):
    record = train_or_load(name, "tiny", out=tmp_path)
    assert names(tmp_path) == [name]  # nothing but the record
    assert names(record.folder) == [
        "config.json",
        "curves.png",
        "examples.safetensors",
        "filmstrip.png",
        "hardest.png",
        "history.csv",
        "metrics.json",
        "photographs.png",
        "predictions.png",
        "weights.safetensors",
    ]
    metrics = record.metrics
    assert metrics["data"] == {
        "name": "pets",
        "title": "Oxford-IIIT Pet",
        "source": "synthetic",
        "official": None,
        "classes": ["pet", "background", "border"],
        "channels": 3,
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
    assert "Synthetic data in place of Oxford-IIIT Pet, drawn by s18_utils: 22 training" in output
    lines = [line for line in output.splitlines() if ": epoch " in line]  # one each, outside a terminal
    assert [line.split(": epoch ")[1].split(",")[0] for line in lines] == ["1/2", "2/2"]
    hparams = record.model().hparams
    assert {key: hparams[key] for key in ("down", "up", "loss")} == {
        key: EXPERIMENTS[name].block[key] for key in ("down", "up", "loss")
    }


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


def test_variants_are_kept_beside_the_first(trained, tmp_path):
    first = train_or_load(NAME, "tiny", out=tmp_path)
    for name, value in {"epochs": 1, "size": 16}.items():
        variant = train_or_load(NAME, "tiny", out=tmp_path, **{name: value})
        assert variant.folder == tmp_path / f"{NAME}+{name}={value}"
        assert (variant.changes, first.changes) == ({name: value}, {})
        assert getattr(variant.settings, name) == value
        assert variant.label().endswith(f", {name}={value}")
        assert train_or_load(NAME, "tiny", out=tmp_path, **{name: value}).metrics == variant.metrics
    assert trained == [0] * 3
    assert len(names(tmp_path)) == 3


def test_a_change_to_what_it_is_anyway_is_no_variant_and_runs_are_kept_by_preset(trained, tmp_path):
    assert train_or_load(NAME, "tiny").folder == tmp_path / "runs" / "tiny" / NAME
    assert train_or_load(NAME, "tiny", width=4).folder == tmp_path / "runs" / "tiny" / NAME
    assert trained == [0]


def test_a_variant_with_a_name_of_its_own(trained, tmp_path, capsys):
    record = train_or_load(NAME, "tiny", out=tmp_path, up="bilinear", name="the assignment's run 1")
    assert record.folder == tmp_path / f"{NAME}+the assignment's run 1"
    assert record.title().startswith("UNet: max pooling, transposed convolution, cross-entropy, the assignment's run 1")
    assert record.model().hparams.up == "bilinear"
    assert "max pooling, transposed convolution, cross-entropy, the assignment's run 1, seed 0: epoch 1/2" in (
        capsys.readouterr().out
    )
    with refused("width=4 instead of 6", "a name of its own", "retrain"):
        train_or_load(NAME, "tiny", out=tmp_path, up="bilinear", width=6, name="the assignment's run 1")
    assert trained == [0]


@pytest.mark.parametrize("name", ["", " ", "a/b", "..\\x", "x" * 200, "a:b", "new\nline", "$x_$"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with refused("can't be a folder's name"):
        train_or_load(NAME, "tiny", out=tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()


def test_a_changed_block_does_not_overwrite_what_is_there(small, trained, tmp_path):
    train_or_load(NAME, "tiny", out=tmp_path)
    before = listing(tmp_path)
    small(epochs=1)
    with refused("epochs=2 instead of 1", "replace that one with retrain"):
        train_or_load(NAME, "tiny", out=tmp_path)
    assert listing(tmp_path) == before
    assert train_or_load(NAME, "tiny", out=tmp_path, retrain=True).metrics["epochs"] == 1


def test_other_data_are_trained_on_anew(trained, tmp_path, pets_folder, small):
    small(limit=None, batch_size=2, source="auto")
    train_or_load(NAME, "tiny", out=tmp_path / "a")
    train_or_load(NAME, "tiny", out=tmp_path / "a", source="torchvision")  # the same bytes by another way
    assert trained == [0]
    (pets_folder / "annotations" / "trainval.txt").write_text("train_0 1 1 1\ntrain_1 1 1 1\ntrain_2 1 1 1\n")
    record = train_or_load(NAME, "tiny", out=tmp_path / "a", retrain=True)
    assert trained == [0, 0]
    assert record.metrics["data"]["train"] == 2


def test_without_data_a_record_from_real_data_serves(trained, tmp_path, pets_folder, small, monkeypatch, capsys):
    small(limit=None, batch_size=2, source="auto")
    real = train_or_load(NAME, "tiny", out=tmp_path / "a")
    (tmp_path / "nothing-here").mkdir()
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
    # Synthetic data that were asked for by name are not replaced by anything, nor do they replace anything.
    with refused("holds a record of other data, from local", "a name of its own"):
        train_or_load(NAME, "tiny", out=tmp_path / "a", source="synthetic")
    assert train_or_load(NAME, "tiny", out=tmp_path / "a").metrics == real.metrics
    assert train_or_load(NAME, "tiny", out=tmp_path / "a", source="synthetic", name="drawn").synthetic
    assert trained == [0, 0]


def test_a_record_of_another_preset_is_not_overwritten(trained, tmp_path):
    train_or_load(NAME, "tiny", out=tmp_path)
    before = listing(tmp_path)
    with refused("holds a record of preset tiny", "choose another folder"):
        train_or_load(NAME, "quick", out=tmp_path)
    assert listing(tmp_path) == before
    assert trained == [0]
    assert train_or_load(NAME, "quick", out=tmp_path, retrain=True).preset == "quick"


def test_what_is_no_record_is_not_replaced(tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "thesis.txt").write_text("years of work")
    with refused("is no record of this package", "move it away"):
        train_or_load(NAME, "tiny", out=tmp_path, retrain=True)
    assert listing(tmp_path) == {NAME: None, f"{NAME}/thesis.txt": b"years of work"} | {
        key: value for key, value in listing(tmp_path).items() if key.startswith("runs")
    }


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


def test_an_old_record_survives_a_run_that_fails(tmp_path, monkeypatch):
    train_or_load(NAME, "tiny", out=tmp_path)
    before = listing(tmp_path)
    monkeypatch.setattr(FiniteLoss, "on_train_batch_end", lambda *arguments: raise_floating_point())
    with pytest.raises(FloatingPointError):
        train_or_load(NAME, "tiny", out=tmp_path, retrain=True)
    assert listing(tmp_path) == before


def test_a_seed_that_diverges_costs_no_other(tmp_path, monkeypatch):
    step, partial = FiniteLoss.on_train_batch_end, tmp_path / f".{NAME}.training"
    monkeypatch.setattr(
        FiniteLoss,
        "on_train_batch_end",
        lambda self, trainer, module, *rest: (
            raise_floating_point()
            if (partial / "seed-0" / "result.json").is_file()
            else step(self, trainer, module, *rest)
        ),
    )
    with pytest.raises(FloatingPointError):
        train_or_load(NAME, "tiny", seeds=2, out=tmp_path)
    assert [path.name for path in partial.glob("seed-*")] == ["seed-0"]
    monkeypatch.setattr(FiniteLoss, "on_train_batch_end", step)
    assert train_or_load(NAME, "tiny", seeds=2, out=tmp_path).metrics["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("experiment", "change", "parts"),
    [
        ("cvae-mnist", {"decoder_widths": [8, 8]}, ("decoder widths do not fit",)),
        ("cvae-mnist", {"judge.net": "Nothing"}, ("Nothing",)),
        ("judge-mnist", {"translate": 40}, ("translate=40 moves images of", "use less")),
        (NAME, {"seed": 2**32 - 1}, ("2 seeds from 4294967295 on",)),
    ],
)
def test_what_can_not_work_is_said_before_anything_is_trained(tmp_path, monkeypatch, experiment, change, parts):
    monkeypatch.setattr(training, "train_seeds", lambda *arguments: pytest.fail("something is trained"))
    with refused(*parts):
        train_or_load(experiment, "tiny", source="synthetic", seeds=2, out=tmp_path, **change)


def raise_floating_point() -> None:
    raise FloatingPointError("the loss became nan: stop")


@pytest.mark.parametrize(("best", "moved"), [(1, False), (2, False), (3, False), (1, True)])
def test_the_best_epochs_weights_are_kept(small, tmp_path, monkeypatch, best, moved):
    # The validation score is made up, so that epoch `best` wins; the weights at its end are caught on the way.
    small(epochs=3)
    caught, start = {}, UNetModule.on_validation_epoch_end

    def end(module):
        start(module)
        epoch = module.current_epoch + 1
        score = 0.9 if epoch == best else 0.1 * epoch
        module.trainer.callback_metrics["val_mean_iou"] = torch.tensor(score)
        module.log("val_mean_iou_made_up", score)
        caught[epoch] = {name: to_half(tensor.clone()) for name, tensor in module.state_dict().items()}

    monkeypatch.setattr(UNetModule, "on_validation_epoch_end", end)
    monkeypatch.setattr(UNetModule, "monitor", ("val_mean_iou_made_up", "max"))
    if moved:
        interrupt_in(monkeypatch, UNetModule, epoch=1, batch=1)
        train_or_load(NAME, "tiny", out=tmp_path / "before")
        (tmp_path / "before").rename(tmp_path / "runs")
    record = train_or_load(NAME, "tiny", out=tmp_path / "runs")
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


def constant_background(data: StoreData) -> float:
    """mIoU of calling everything background: a third of the share of background."""
    return (data.test.tensors["mask"][data.test.rows] == 1).float().mean().item() / 3


def learns(small, tmp_path, least: float, **settings) -> None:
    small(size=48, epochs=6, batch_size=16, limit=400, width=8, learning_rate=8e-3, **settings)
    data = training.build_data(DICE, "tiny")
    record = train_or_load(DICE, "tiny", out=tmp_path)
    assert record.metrics["test"]["mean_iou"] > constant_background(data) + least
    assert min(record.metrics["test"]["iou"].values()) > 0.05  # not only the frequent class
    losses = [row["train_loss"] for row in record.history]
    assert losses[-1] < 0.85 * losses[0]


def test_it_learns_on_synthetic_pets(small, tmp_path):
    learns(small, tmp_path, least=0.15)


def test_it_learns_on_real_pets(small, tmp_path, real_data):
    real_data(pets)
    learns(small, tmp_path, least=0.12, source="local")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"wdith": 8}, (f"{NAME} has no setting wdith", "its settings are data, source", "width", "colour")),
        ({"judge.epochs": 2}, ("has no setting judge.epochs",)),
        ({"width": "wide"}, ("width can't be 'wide'", "integer")),
        ({"width": 3}, ("width can't be 3", "multiple of 2")),
        ({"epochs": 0}, ("epochs can't be 0", "greater than or equal to 1")),
        ({"learning_rate": math.nan}, ("learning_rate can't be nan", "finite")),
        ({"loss": "focal"}, ("loss can't be 'focal'", "'ce' or 'dice'")),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_before_anything_is_written(tmp_path, change, parts):
    with refused(*parts):
        train_or_load(NAME, "tiny", out=tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("step", "error", "parts"),
    [
        ("training_step", torch.OutOfMemoryError("CUDA out of memory."), ("a batch of 8 images", "use batch_size=4")),
        ("test_step", torch.OutOfMemoryError("CUDA out of memory."), ("a batch of 8 images", "score on a CPU")),
        (
            "training_step",
            OSError(28, "No space left"),
            ("No space left", "training stopped", "epochs before this one"),
        ),
        ("test_step", OSError(28, "No space left"), ("No space left", "scoring stopped", "free some space")),
    ],
)
def test_too_little_memory_or_space_is_one_sentence_that_says_what_to_do(tmp_path, monkeypatch, step, error, parts):
    def fail(self, batch, batch_idx):
        raise error

    monkeypatch.setattr(UNetModule, step, fail)
    with refused(*parts):
        train_or_load(NAME, "tiny", out=tmp_path)


def test_the_preset_comes_from_the_environment_or_the_device(monkeypatch):
    for kind, preset in (("cpu", "quick"), ("cuda", "full"), ("mps", "full")):
        monkeypatch.setattr(records, "device", lambda kind=kind: torch.device(kind))
        assert records.default_preset() == preset
    monkeypatch.setenv("S18_PRESET", "tiny")
    assert records.default_preset() == "tiny"
    monkeypatch.setenv("S18_PRESET", "huge")
    with pytest.raises(InputError, match="unknown preset 'huge': choose one of tiny, quick, full"):
        records.default_preset()


def test_weights_at_full_that_come_along_make_full_the_preset(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(records, "PUBLISHED", tmp_path / "figures")
    monkeypatch.setattr(records, "RELEASED", tmp_path)
    (tmp_path / "large").touch()
    beside = tmp_path / "figures" / "full"
    for place, preset, kept, expected in (
        (beside.parent, "full", "weights.safetensors", "full"),
        (beside.parent, "quick", "weights.safetensors", "quick"),
        (beside, "full", "", "quick"),
        (beside, "full", "weights.json", "quick"),  # of a release, on this machine and on no other
        (beside, "full", "weights.safetensors", "full"),
    ):
        write_record(Record(place / NAME, sample_metrics(preset=preset), sample_history()), {}, {})
        if kept:
            (place / NAME / kept).write_text('{"file": "large", "sha256": ""}')
        assert records.default_preset(NAME) == expected
        assert records.default_preset() == records.default_preset("unet-strided-upsample-dice") == "quick"


@pytest.mark.parametrize(
    "options",
    [{}, {"name": "mine"}, {"retrain": True}, {"seeds": 2}, {"out": "here"}, {"source": "local"}, {"width": 8}],
)
def test_only_what_need_not_be_trained_has_the_preset_of_a_published_record(monkeypatch, options):
    def stop(experiment: str | None = None) -> str:
        raise InputError(f"asked for {experiment}")

    monkeypatch.setattr(training, "default_preset", stop)
    with pytest.raises(InputError, match=f"asked for {None if options else NAME}"):
        train_or_load(NAME, **options)


@pytest.mark.parametrize(
    ("name", "folder", "parts"),
    [
        (NAME, "classes", ("has labels", "learns from masks", "images/ and masks/")),
        ("cvae-mnist", "pairs", ("has masks", "learns from labels", "a folder of images for each class")),
    ],
)
def test_a_folder_of_the_other_kind_is_refused(tmp_path, name, folder, parts):
    for number in range(8):
        places = {"classes": [f"classes/{number % 2}"], "pairs": ["pairs/images", "pairs/masks"]}[folder]
        for place in places:
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            picture = Image.new("L", (32, 32))
            picture.paste(255 if folder == "pairs" else 20 * number, (0, 0, 16, 32))
            picture.save(tmp_path / place / f"{number}.png")
    with refused(*parts):
        train_or_load(name, "tiny", data=str(tmp_path / folder), size=32, out=tmp_path / "runs")


@pytest.mark.parametrize(
    ("name", "data", "said"), [(NAME, "mnist", "MNIST has labels"), ("cvae-cifar10", "pets", "Pet has masks")]
)
def test_a_set_of_the_other_kind_is_refused_for_that(tmp_path, name, data, said):
    with refused(said):  # and not for a size that nobody gave
        train_or_load(name, "tiny", data=data, out=tmp_path)


@pytest.mark.parametrize("hardware", [{"devices": -1}, {"nodes": 0}, {"strategy": "no such"}])
def test_hardware_that_can_not_be_is_refused(tmp_path, hardware):
    with refused("use 1 or more" if "strategy" not in hardware else "change devices, nodes or strategy"):
        train_or_load(NAME, "tiny", out=tmp_path, **hardware)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_experiment_can_be_built_at_every_preset(preset):
    for name, spec in EXPERIMENTS.items():
        settings = build_settings(spec, preset)
        images = {"mnist": (1, 28), "cifar10": (3, 32)}.get(settings.data, (3, 64))
        data = {"classes": tuple("0123456789"), "channels": images[0], "size": images[1]}
        with torch.device("meta"):
            module = build_module(spec.family, settings, data)
        assert module.hparams["learning_rate"] == settings.learning_rate, name


@pytest.mark.parametrize(("epochs", "half"), [(10, 7), (7, 6), (2, 1), (1, 0)])
def test_the_last_epoch_is_on_whole_images_however_few_there_are(epochs, half):
    settings = build_settings(get_experiment(NAME), "quick", {"epochs": epochs, "half_size_epochs": 7})
    assert training.build_batches(open_data("pets", 48, "synthetic"), settings, seed=0).half_size_epochs == half


def test_precision_is_one_that_the_device_has(monkeypatch):
    monkeypatch.setattr(devices, "device", lambda: torch.device("cpu"))
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: False, raising=False)
    assert devices.precision() == "32-true"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert devices.precision() == "bf16-mixed"
    monkeypatch.setattr(devices, "device", lambda: torch.device("mps"))
    assert devices.precision() == "32-true"
    monkeypatch.setattr(devices, "device", lambda: torch.device("cuda"))
    for capability, precision in (((9, 0), "bf16-mixed"), ((8, 0), "bf16-mixed"), ((7, 5), "16-mixed")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda gpu, capability=capability: capability)
        assert devices.precision() == precision
