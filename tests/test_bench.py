"""The bench: the ratios are those of the rates, both ways do the same work, and every measurement measures."""

import contextlib
import json

import pytest
import torch
from conftest import tensor_set

from s18_utils import bench
from s18_utils.bench import costs, epochs, loading, timing, training
from s18_utils.data import open_data
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.experiments import get_experiment
from s18_utils.trainer import autocast

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    monkeypatch.setenv("S18_PRESET", "tiny")
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(training, "STEPS", 1)
    monkeypatch.setattr(training, "LOOP_IMAGES", {"cpu": 16, "cuda": 16})
    monkeypatch.setattr(epochs, "SIDE", {"cpu": 128, "cuda": 1024})


def test_ratios_are_medians_round_by_round(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 3)
    plain, ours = iter([9.0, 1.0, 2.0, 4.0]), iter([9.0, 10.0, 30.0, 44.0])
    measured = timing.ratios("title", "images/s", {"plain": lambda: next(plain), "ours": lambda: next(ours)})
    assert measured.rows == [
        {"way": "plain", "images/s": 2.0, "ratio": 1.0},
        {"way": "ours", "images/s": 30.0, "ratio": 11.0},
    ]


def test_measures_are_taken_in_turn_and_the_first_round_is_left_out(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 3)
    calls = []

    def rate(name):
        return lambda: calls.append(name) or float(len(calls))

    rates = timing.in_turn({"a": rate("a"), "b": rate("b")})
    assert calls == ["a", "b"] * 4
    assert rates == {"a": [3.0, 5.0, 7.0], "b": [4.0, 6.0, 8.0]}


def test_a_rate_is_times_over_seconds(monkeypatch):
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.per_second(lambda: None, 8) == 2.0


def test_numbers_keep_three_digits():
    rows = [{"what": "a", "n": 1234567.8}, {"what": "b", "n": 0.012345}, {"what": "c", "n": 12.345}]
    assert [row[1] for row in timing.Measurement("t", rows).table().rows] == ["1,234,568", "0.0123", "12.3"]


def test_both_loaders_serve_the_same_images(pets_folder):
    plain = loading.plain_loader(str(pets_folder.parent), "trainval", 24, 2)
    images, masks = (torch.cat(part) for part in zip(*plain, strict=True))
    data = open_data("pets", 24)
    assert len(images) == len(data.train["image"]) == 4
    for image, mask in zip(images, masks, strict=True):
        differences = (data.train["image"].float() / 255 - image).abs().mean(dim=(1, 2, 3))
        best = differences.argmin()
        assert differences[best] < 0.01
        assert torch.equal(data.train["mask"][best].long(), mask)
        assert mask.dtype == torch.int64


def test_images_are_counted_not_batches(monkeypatch):
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    loader = StoreData(tensor_set(40), 8).train_dataloader()
    assert loading.images_per_second(loader) == 32 / 2  # 36 images to train on, four whole batches


def test_data_on_files(pets_folder):
    measured = loading.data(size=24)
    assert "local data" in measured.title
    assert measured.rows[0]["ratio"] == 1
    assert measured.rows[1]["ratio"] > 1


def test_step_and_loop(pets_folder, small):
    small(source="auto", limit=None)
    step, loop = training.step(), training.loop()
    assert "batch 8 at 32 px, width 4" in step.title
    assert "on 4 images at 32 px" in loop.title
    assert "validation on 1 included, local data" in loop.title
    for measured in (step, loop):
        assert [row["ratio"] > 0 for row in measured.rows] == [True, True]


@pytest.mark.parametrize("fast", [False, True])
def test_a_step_changes_every_weight(small, fast):
    module = training.new_module(small())
    before = [parameter.clone() for parameter in module.parameters()]
    images, masks = training.random_batch(4, 32)
    training.step_of(module, images, masks, autocast() if fast else contextlib.nullcontext(), fused=fast)()
    assert not any(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))


def test_the_fast_step_gives_the_numbers_of_the_plain_one(small):
    # In single precision: half precision differs by more than layout and fused optimiser may.
    images, masks = training.random_batch(4, 32)
    weights = []
    for fast in (False, True):
        module = training.new_module(small())
        layout = torch.channels_last if fast else torch.contiguous_format
        module = module.to(memory_format=layout)
        step = training.step_of(
            module, images.contiguous(memory_format=layout), masks, contextlib.nullcontext(), fused=fast
        )
        for _ in range(2):
            step()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))
    # Adam's first steps are near the learning rate whatever the gradient: where one is all but 0 its sign is chance.
    assert (weights[0] - weights[1]).abs().mean() < 2e-5


def test_flops_of_a_convolution_are_those_worked_out_by_hand():
    module = get_experiment(epochs.FULL_WIDTH).build({"width": 4})
    batch = {"image": torch.rand(2, 3, 16, 16), "mask": torch.zeros(2, 16, 16, dtype=torch.long)}
    whole = epochs.flops(module, batch)
    module.unet = torch.nn.Conv2d(3, 3, 3, padding=1).to(module.device)
    # Forward, and backward for the weights; images need no gradient.
    assert epochs.flops(module, batch) == 2 * (2 * 2 * 3 * 3 * 9 * 16 * 16)
    assert whole > 10 * epochs.flops(module, batch)


def test_an_epoch_of_either_family(monkeypatch):
    for name in ("unet-strided-upsample-dice", "cvae-mnist"):
        row = epochs.epoch_of(name, "tiny")
        assert row["experiment"] == name
        assert row["s/epoch"] > 0
        assert row["% of peak"] > 0
        assert row["peak memory in MB"] > 100


def test_the_rest_measures_what_it_says():
    grown = costs.memory()
    assert [row["epoch"] for row in grown.rows] == [str(number) for number in range(1, costs.EPOCHS + 1)]
    swaps = {row["experiment"]: row for row in costs.swap().rows}
    assert list(swaps) == ["cvae-mnist", "cvae-cifar10"]
    assert all(0 < row["median in ms"] <= row["95th percentile in ms"] for row in swaps.values())
    sizes = {(row["size"], row["batch"]) for row in training.scaling().rows}
    assert {("64 px", "4"), ("128 px", "16"), ("256 px", "16")} <= sizes


def test_importing_the_package_costs_next_to_nothing(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 3)
    milliseconds = {row["statement"]: row["ms"] for row in costs.imports().rows}
    assert milliseconds["import s18_utils"] < 300
    assert milliseconds["import torch"] > milliseconds["import s18_utils"]


def test_run_takes_one_or_all_and_refuses_others(monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "measures", lambda: {name: lambda name=name: asked.append(name) for name in ("a", "b")})
    assert [name for name, _ in bench.run()] == ["a", "b"] == asked
    assert [name for name, _ in bench.run("b")] == ["b"]
    with pytest.raises(InputError, match="unknown measurement 'c': choose one of a, b"):
        list(bench.run("c"))


def test_every_row_is_json():
    for _, measured in bench.run("peak"):
        assert json.loads(json.dumps(measured.rows)) == measured.rows
