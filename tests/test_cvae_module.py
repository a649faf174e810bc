"""The conditional VAE's objective and training: its terms, what is frozen, what is kept, refused and resumed."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import assert_one_sentence, listing
from cvae_stand_ins import SMALL, BandJudge, band_set
from safetensors.torch import load_file

from s18_utils import cvae_plots, presets, records, training
from s18_utils.cvae import ClassifierModule, CVAEModule
from s18_utils.cvae import module as cvae_module
from s18_utils.cvae.losses import gaussian_nll, kl_divergence, label_loss
from s18_utils.cvae.module import Disturbance
from s18_utils.cvae.swap import SwapScores
from s18_utils.data import sources
from s18_utils.data.augmentation import gaussian_blur
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.progress import History
from s18_utils.records import Record, read_record
from s18_utils.trainer import Reseed, build_trainer, quiet
from s18_utils.training import train_or_load

NAME = "cvae-mnist"
HELPERS = ["classifier-mnist", "judge-mnist"]
FIGURES = ["all_labels", "composite", "curves", "matrix", "reconstructions", "samples"]
on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="sums on a GPU are not the same to the last bit")


def new_module(**settings) -> CVAEModule:
    torch.manual_seed(0)
    return CVAEModule(**{**SMALL, **settings})


def examples(count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    batch = StoreData(band_set(), 8).examples(count)
    return batch["image"], batch["label"]


def fit(module: CVAEModule, epochs: int = 1, batch_size: int = 24):
    data = StoreData(band_set(), batch_size)  # 72 training images
    with quiet():
        trainer = build_trainer(epochs, [Reseed(0)], progress=False)
        trainer.fit(module, data)
    return trainer


def snapshot(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# The objective.


def test_terms_are_the_losses_and_the_loss_is_their_weighted_sum():
    module = new_module(kl_weight=2.0, true_share=0.5, code_weight=0.25).eval()
    images, labels = examples()
    terms = module.terms(images, labels, 3.0)
    drawn, mu, logvar = module(images, labels)
    torch.testing.assert_close(terms["nll"], gaussian_nll(drawn, images, module.vae.log_sigma).mean())
    torch.testing.assert_close(terms["kl"], kl_divergence(mu, logvar).mean())
    torch.testing.assert_close(terms["label_true"], label_loss(module.frozen(drawn), labels).mean())
    labelled = 0.5 * terms["label_true"] + terms["label_swapped"]
    loss = terms["nll"] + 2 * terms["kl"] + 3 * labelled + 0.25 * terms["code"]
    torch.testing.assert_close(terms["loss"], loss)


def test_without_a_label_weight_the_loss_is_that_of_a_plain_conditional_vae():
    module = new_module(code_weight=0.0).eval()
    terms = module.terms(*examples(), 0.0)
    torch.testing.assert_close(terms["loss"], terms["nll"] + terms["kl"])


def test_the_swapped_term_asks_for_the_asked_label_not_the_true_one(monkeypatch):
    module = new_module().eval()
    images, labels = examples()
    asked = (labels + 4) % 10
    monkeypatch.setattr(cvae_module, "mismatched_labels", lambda *_: asked)
    expected = label_loss(module.frozen(module.swap(images, labels, asked)), asked).mean()
    torch.testing.assert_close(module.terms(images, labels, 1.0)["label_swapped"], expected)


def test_the_code_term_reads_the_code_of_the_input_in_the_swapped_drawing(monkeypatch):
    module = new_module(code_weight=1.0).eval()
    images, labels = examples()
    asked = (labels + 4) % 10
    monkeypatch.setattr(cvae_module, "mismatched_labels", lambda *_: asked)
    mu, logvar = module.vae.encode(module.swap(images, labels, asked), asked)
    code, _ = module.vae.encode(images, labels)
    expected = -torch.distributions.Normal(mu, (0.5 * logvar).exp()).log_prob(code).sum(1).mean()
    torch.testing.assert_close(module.terms(images, labels, 0.0)["code"], expected)


def test_the_code_term_leaves_the_encoders_statistics_to_images():
    module, plain = new_module(code_weight=1.0), new_module(code_weight=0.0)
    for each in (module, plain):
        torch.manual_seed(0)
        each.train().terms(*examples(), 0.0)
        assert each.vae.encoder.training
    assert equal(snapshot(module.vae.encoder), snapshot(plain.vae.encoder))


def test_labels_asked_in_training_are_wrong_ones_and_change_from_step_to_step(monkeypatch):
    module, asked = new_module().train(), []
    decode = module.vae.decode
    monkeypatch.setattr(module.vae, "decode", lambda codes, labels: asked.append(labels) or decode(codes, labels))
    images, labels = examples()
    for _ in range(2):
        module.terms(images, labels, 1.0)
    assert all(torch.equal(drawn_under[:16], labels) for drawn_under in asked)
    assert all((drawn_under[16:] != labels).all() for drawn_under in asked)
    assert not torch.equal(asked[0], asked[1])


def test_terms_repeat_in_evaluation_mode_and_leave_chance_alone():
    module = new_module(latent_noise=0.5, latent_reach=1.0).eval()
    images, labels = examples()
    before = torch.get_rng_state()
    first, again = (module.terms(images, labels, 3.0) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(before, torch.get_rng_state())


def test_latent_augmentation_is_for_swapped_drawings_alone(monkeypatch):
    module, codes = new_module(latent_noise=0.5, latent_reach=1.0).train(), []
    monkeypatch.setattr(module.vae, "sample", lambda mu, logvar: mu)
    decode = module.vae.decode
    monkeypatch.setattr(module.vae, "decode", lambda given, labels: codes.append(given) or decode(given, labels))
    images, labels = examples()
    mu, _ = module.vae.encode(images, labels)
    module.terms(images, labels, 1.0)
    torch.testing.assert_close(codes[0][:16], mu)
    assert (codes[0][16:] != mu).any(1).all()
    codes.clear()
    module.eval().terms(images, labels, 1.0)
    assert torch.equal(codes[0][16:], codes[0][:16])


def test_the_label_weight_waits_then_climbs_then_stays():
    module = new_module(label_weight=10, label_start=0.2, label_full=0.6)
    weights = [module.label_weight_at(progress) for progress in (0, 0.2, 0.3, 0.4, 0.6, 1)]
    assert weights == pytest.approx([0, 0, 2.5, 5, 10, 10])
    at_once = new_module(label_weight=10, label_start=-1, label_full=0)
    assert [at_once.label_weight_at(progress) for progress in (0, 0.5, 1)] == [10, 10, 10]


def test_training_goes_through_the_warm_up(monkeypatch):
    module, weights = new_module(label_weight=10, label_start=0.0, label_full=0.5), []
    terms = module.terms
    monkeypatch.setattr(module, "terms", lambda *batch: weights.append(batch[2]) or terms(*batch))
    fit(module, epochs=2, batch_size=12)  # twelve steps, and after every six one look at the validation images
    assert weights == pytest.approx([10 * min(step / 6, 1) for step in range(6)] + [10] + [10] * 6 + [10])


def test_the_table_of_epochs_has_a_column_for_a_term_that_joins_in_later():
    history = History("title", 0)
    history.total = 2
    rows = [{"train_nll": 1.0, "val_nll": 2.0}, {"train_nll": 3.0, "train_label_true": 4.0, "val_nll": 5.0}]
    history.rows = [{"seed": 0, "epoch": epoch, "seconds": 1.0, **row} for epoch, row in enumerate(rows, 1)]
    page = history.html()
    assert "<th>train nll</th><th>train label true</th><th>val nll</th>" in page
    assert "<td>1.0000</td><td></td><td>2.0000</td>" in page
    assert "<td>3.0000</td><td>4.0000</td><td>5.0000</td>" in page


def test_training_lowers_the_objective():
    module = new_module(label_weight=0.0, learning_rate=5e-3)
    images, labels = examples(40)
    before = module.train().terms(images, labels, 0.0)["loss"].item()
    fit(module, epochs=15)
    assert module.train().terms(images, labels, 0.0)["loss"].item() < before - 100


# What is frozen, what learns.


def test_the_frozen_network_is_untouched_by_training():
    module = new_module()
    frozen, learned = snapshot(module.frozen), snapshot(module.vae)
    trainer = fit(module, epochs=3)
    assert not module.frozen.training
    assert not any(layer.training for layer in module.frozen.modules())
    assert equal(module.frozen.state_dict(), frozen)  # weights and running statistics
    assert any(name.endswith("running_mean") for name in frozen)
    assert not any(parameter.requires_grad for parameter in module.frozen.parameters())
    assert all(parameter.grad is None for parameter in module.frozen.parameters())
    held = {id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in module.vae.parameters()}
    still = [name for name, value in module.vae.state_dict().items() if torch.equal(value, learned[name])]
    assert still == []  # while all else did learn


def test_the_frozen_network_stays_in_evaluation_mode_whatever_is_asked():
    module = new_module()
    for mode in (module.train(), module.train().eval(), module.eval().train()):
        assert not mode.frozen.training
    assert module.vae.training


def test_the_label_loss_reaches_the_decoder_through_the_frozen_network():
    module = new_module(shift=0, noise=0, blur=0).train()
    module.terms(*examples(), 1.0)["label_swapped"].backward()
    assert module.vae.decoder.draw.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in module.frozen.parameters())


def test_every_parameter_is_in_one_group_and_only_kernels_decay():
    module = new_module(weight_decay=0.1)
    groups = fit(module).optimizers[0].param_groups
    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len({id(parameter) for parameter in held}) == len(list(module.vae.parameters()))
    assert [group["weight_decay"] for group in groups] == [0.1, 0, 0]
    assert all(parameter.ndim > 1 for parameter in groups[0]["params"])
    assert groups[2]["params"] == [module.vae.log_sigma]
    assert groups[2]["max_lr"] == pytest.approx(5 * groups[0]["max_lr"])


# What drawings go through before the frozen network.


def test_disturbance_changes_drawings_in_training_only():
    torch.manual_seed(0)
    images = torch.rand(8, 1, 28, 28)
    layer = Disturbance()
    assert not torch.equal(layer(images), images)
    assert layer.eval()(images) is images
    assert Disturbance(0, 0, 0)(images) is images


def test_disturbance_leaves_chance_alone_in_evaluation_mode():
    before = torch.get_rng_state()
    Disturbance().eval()(torch.zeros(2, 1, 28, 28))
    assert torch.equal(before, torch.get_rng_state())


def test_a_shift_moves_each_part_of_a_batch_as_a_whole():
    torch.manual_seed(0)
    images = torch.zeros(40, 1, 28, 28)
    images[:, :, 14, 14] = 1
    layer, places = Disturbance(shift=2, noise=0, blur=0, groups=4), set()
    for _ in range(60):
        moved = layer(images)
        assert torch.equal(moved.sum((1, 2, 3)), torch.ones(40))
        where = [tuple(place) for place in moved.nonzero()[:, 2:].tolist()]
        assert all(len(set(where[part : part + 10])) == 1 for part in range(0, 40, 10))
        places |= set(where)
    assert places == {(row, column) for row in range(12, 17) for column in range(12, 17)}


def test_half_of_the_parts_are_blurred():
    torch.manual_seed(0)
    images = torch.zeros(4, 1, 9, 9)
    images[:, :, 4, 4] = 1
    middles = torch.cat([Disturbance(shift=0, noise=0, blur=1.0)(images)[:, 0, 4, 4] for _ in range(200)])
    assert 300 < (middles < 1).sum() < 500
    strongest = gaussian_blur(images, 1.3)[0, 0, 4, 4].item()
    assert middles.min().item() == pytest.approx(strongest, abs=0.02)


def test_noise_is_drawn_for_each_image_up_to_its_size():
    torch.manual_seed(0)
    sizes = Disturbance(shift=0, noise=0.3, blur=0)(torch.zeros(400, 1, 28, 28)).flatten(1).std(1)
    assert 0.28 < sizes.max() < 0.33
    assert sizes.mean().item() == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_disturbance_keeps_every_image_of_any_batch_in_its_place(count):
    images = torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)  # flat, so shift and blur do nothing
    torch.testing.assert_close(Disturbance(noise=0)(images), images)


# The module as a whole.


def test_settings_are_json_and_rebuild_the_module():
    module = new_module(label_weight=7.0).eval()
    again = CVAEModule(**json.loads(json.dumps(dict(module.hparams)))).eval()
    again.load_state_dict(module.state_dict())
    images, labels = examples(4)
    asked = labels.flip(0)
    assert torch.equal(again.swap(images, labels, asked), module.swap(images, labels, asked))
    assert again.hparams.label_weight == 7.0


def test_drawings_come_without_gradients_and_in_the_unit_range():
    module = new_module().eval()
    images, labels = examples(4)
    for drawn in (
        module.swap(images, labels, labels.flip(0)),
        module.reconstruct(images, labels),
        module.imagine(labels),
    ):
        assert not drawn.requires_grad
        assert drawn.shape == images.shape
        assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(module.imagine(labels, seed=1), module.imagine(labels, seed=1))
    assert not torch.equal(module.imagine(labels, seed=1), module.imagine(labels, seed=2))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"label": torch.tensor([0, 10])}, ("labels must lie in 0–9",)),
        ({"label": torch.tensor([0.0, 1.0])}, ("int64",)),
        ({"label": torch.tensor([0])}, ("shape (2,)",)),
        ({"image": torch.full((2, 1, 28, 28), 255.0)}, ("[0, 1]",)),
        ({"image": torch.zeros(2, 1, 28, 28, dtype=torch.uint8)}, ("divide uint8",)),
        ({"image": torch.zeros(2, 1, 32, 32)}, ("(N, 1, 28, 28)",)),
        ({"image": torch.zeros(1, 1, 28, 28), "label": torch.tensor([3])}, ("at least 2",)),
    ],
    ids=["label", "float label", "too few labels", "range", "uint8", "size", "one"],
)
def test_a_bad_training_batch_is_refused_in_one_sentence(change, parts):
    module = new_module().train()
    batch = {"image": torch.zeros(2, 1, 28, 28), "label": torch.tensor([0, 1])} | change
    with pytest.raises(InputError) as caught:
        module.terms(batch["image"], batch["label"], 1.0)
    assert_one_sentence(str(caught.value), *parts)


def test_scoring_without_a_judge_is_refused():
    with pytest.raises(InputError) as caught:
        training.score(new_module(), StoreData(band_set(), 8))
    assert_one_sentence(str(caught.value), "there is no judge", "attach()")


def test_swaps_are_scored_through_lightning():
    module = new_module()
    module.scores = SwapScores(BandJudge(), BandJudge())
    scores = training.score(module, StoreData(band_set(test=40), 16))
    assert scores["judge_accuracy"] == scores["classifier_accuracy"] == 1
    assert 0 <= scores["swap_agreement"] <= 1
    whole = training.score(module, StoreData(band_set(test=40), 40))
    for name in ("swap_agreement", "same_label_agreement", "mse", "psnr", "kl", "bits_per_dim", "label_loss"):
        assert scores[name] == pytest.approx(whole[name], rel=1e-3)


# Classifiers, judge and conditional VAE from end to end.


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
    stop_in(monkeypatch, 1)
    train_or_load(NAME, "tiny", out=copied, retrain=True)
    before = listing(copied)
    spoil_judge(copied, 0.1)
    with pytest.raises(InputError):
        train_or_load(NAME, "tiny", out=copied, resume=True)
    spoil_judge(copied, 1.0)
    assert listing(copied).keys() == before.keys()
    assert not train_or_load(NAME, "tiny", out=copied, resume=True).metrics["interrupted"]


def test_a_frozen_network_of_another_architecture_is_refused(helpers):
    module = new_module()  # with narrower layers than the record's
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


def stop_in(monkeypatch, epoch: int) -> None:
    """Interrupts the next training of a conditional VAE in the middle of an epoch."""
    step, left = CVAEModule.training_step, [1]

    def stop(module, batch, batch_idx):
        if left[0] and module.current_epoch == epoch and batch_idx == 3:
            left[0] = 0
            raise KeyboardInterrupt
        return step(module, batch, batch_idx)

    monkeypatch.setattr(CVAEModule, "training_step", stop)


@on_cpu
def test_interrupted_and_resumed_equals_uninterrupted(copied, tiny_cvae, tmp_path, monkeypatch):
    whole = train_or_load(NAME, "tiny", out=shutil.copytree(copied, tmp_path / "whole"), retrain=True)
    for epoch in (1, 2):
        stop_in(monkeypatch, epoch)
        stopped = train_or_load(NAME, "tiny", out=copied, retrain=epoch == 1, resume=epoch > 1)
        assert stopped.metrics["interrupted"]
        assert stopped.metrics["epochs"] == epoch
    resumed = train_or_load(NAME, "tiny", out=copied, resume=True)
    assert not resumed.metrics["interrupted"]
    histories = [[{**row, "seconds": 0} for row in record.history] for record in (resumed, whole)]
    assert histories[0] == histories[1]
    assert equal(*(load_file(record.folder / "weights.safetensors") for record in (resumed, whole)))
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
