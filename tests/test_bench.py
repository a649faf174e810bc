"""The bench: the ratios are those of the rates, and both ways do the same work."""

import contextlib

import pytest
import torch
from conftest import tensor_set

from s18_utils import bench
from s18_utils.data import open_data
from s18_utils.data.batches import StoreData
from s18_utils.experiments import get_experiment
from s18_utils.trainer import autocast

pytestmark = pytest.mark.usefixtures("small")


def test_ratios_are_medians_round_by_round():
    table = bench.ratios({"plain": [1.0, 2.0, 4.0], "ours": [10.0, 30.0, 44.0]}, "images/s")
    assert [list(row) for row in table.rows] == [["plain", "2.0", "1.0×"], ["ours", "30.0", "11.0×"]]
    assert table.header[0] == "images/s"


def test_measures_are_taken_in_turn_and_the_first_round_is_left_out():
    calls = []

    def measure(name):
        return lambda: calls.append(name) or float(len(calls))

    rates = bench.in_turn({"a": measure("a"), "b": measure("b")})
    assert calls == ["a", "b"] * (bench.ROUNDS + 1)
    assert rates["a"] == [3.0, 5.0, 7.0][: bench.ROUNDS]
    assert rates["b"] == [4.0, 6.0, 8.0][: bench.ROUNDS]


def test_both_loaders_serve_the_same_images(pets_folder):
    plain = bench.plain_loader(str(pets_folder.parent), 24, 2)
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
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    loader = StoreData(tensor_set(40), 8).train_dataloader()
    assert bench.images_per_second(loader) == 32 / 2  # 36 images to train on, four whole batches


def test_bench_data_on_files(pets_folder, monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setenv("S18_PRESET", "tiny")
    table = bench.bench_data(size=24)
    assert "local data" in table.header[0]
    assert table.rows[0][2] == "1.0×"
    assert float(table.rows[1][2].rstrip("×")) > 1


def test_bench_train_trains(monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "STEPS", 1)
    monkeypatch.setenv("S18_PRESET", "tiny")
    table = bench.bench_train()
    assert "batch 8 at 32 px, width 4" in table.header[0]
    assert [float(row[1]) > 0 for row in table.rows] == [True, True]


@pytest.mark.parametrize("fast", [False, True])
def test_a_step_changes_every_weight(small, fast):
    torch.manual_seed(0)
    settings = small()
    module = get_experiment(bench.EXPERIMENT).build(settings.module)
    before = [parameter.clone() for parameter in module.parameters()]
    batch = {"image": torch.rand(4, 3, 32, 32), "mask": torch.randint(0, 3, (4, 32, 32))}
    bench.step_of(module, batch, autocast() if fast else contextlib.nullcontext())()
    assert not any(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))
