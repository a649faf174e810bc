"""Two processes share a run: the same gradients, steps and scores as of one, and one record, written once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import listing
from shared_run import SETTINGS, norm_by_image
from torch.nn.functional import cosine_similarity

from s18_utils import fitting, records, training
from s18_utils.experiments import build_settings, get_experiment
from s18_utils.records import read_record

ROOT = Path(__file__).resolve().parent.parent
UNET = "unet-maxpool-transpose-bce"
CVAE = "cvae-mnist"
SCRIPT = [str(ROOT / "tests" / "shared_run.py")]
TWO = ["--devices", "2", "--strategy", "ddp"]
# Lightning's sampler shuffles in both, so that both see the same images in every step.
ONE = ["--devices", "1", "--strategy", "ddp"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "s18_utils"]
NAN = {"S18_NAN_IN_RANK": "1"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shared_store, trained_cvae) -> dict[str, Path]:
    """The folders of all runs, which were started together; each also holds what the run said."""
    folder = tmp_path_factory.mktemp("shared")
    commands = {
        "one": ([*SCRIPT, "fit", UNET, *ONE], {}),
        "two": ([*SCRIPT, "fit", UNET, *TWO], {}),
        "nan": ([*SCRIPT, "fit", UNET, *TWO], NAN),
        "torchrun": ([*TORCHRUN, "fit", CVAE, *TWO, "--set", "adversarial_weight=5"], {}),
    }
    for judge in ("judge-mnist", "second-judge-mnist"):  # the frozen CNN is enough to train on two devices
        shutil.copytree(trained_cvae / judge, folder / "torchrun" / "out" / judge)
    started = {}
    for name, (words, changes) in commands.items():
        out = folder / name / "out"
        out.mkdir(parents=True, exist_ok=True)
        environment = os.environ | changes | {"S18_DATA": str(shared_store), "S18_NOTES": str(folder / name)}
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "S18_RUNS": str(folder / "no-runs")}
        started[name] = subprocess.Popen(
            [sys.executable, *words, "--preset", "tiny", "--out", str(out)],
            stdout=(folder / name / "output.txt").open("w"),
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
        )
    try:
        for name, process in started.items():
            failed = process.wait(timeout=240) != 0
            assert failed == (name == "nan"), (folder / name / "output.txt").read_text()
    finally:
        for process in started.values():
            process.kill()
    return {name: folder / name for name in commands}


def notes(run: Path) -> list[dict]:
    """What each process of a run noted, by rank."""
    return [torch.load(path) for path in sorted(run.glob("rank-*.pt"))]


def metrics(run: Path, experiment: str = UNET) -> dict:
    return json.loads((run / "out" / experiment / "metrics.json").read_text())


def numbers(scores: dict) -> dict[str, float]:
    """Nested scores as one level."""
    flat = {}
    for name, value in scores.items():
        inner = numbers(value) if isinstance(value, dict) else {"": value}
        flat |= {f"{name} {key}".strip(): number for key, number in inner.items()}
    return flat


def test_each_process_takes_its_share_of_the_same_batch(runs):
    (one,), (first, second) = notes(runs["one"]), notes(runs["two"])
    whole = one["batch"]
    assert len(whole["image"]) == SETTINGS["batch_size"]
    for name in whole:
        shares = torch.stack((first["batch"][name], second["batch"][name]), dim=1).flatten(0, 1)
        assert torch.equal(shares, whole[name])


def test_gradients_are_the_mean_of_both_shares(runs, small, monkeypatch):
    small(**SETTINGS)
    data = {"classes": ("pet", "background", "border"), "channels": 3, "size": 32}
    settings = build_settings(get_experiment(UNET), "tiny")
    shares = notes(runs["two"])
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", norm_by_image)
    own = []
    for share in shares:
        torch.manual_seed(0)
        module = records.build_module("unet", settings, data).to(memory_format=torch.channels_last)
        module.loss(module(share["batch"]["image"]), share["batch"]["mask"]).backward()
        own.append({name: parameter.grad for name, parameter in module.named_parameters()})
    assert own[0].keys() == shares[0]["gradients"].keys()
    for name in own[0]:
        mean = (own[0][name] + own[1][name]) / 2
        for share in shares:
            torch.testing.assert_close(share["gradients"][name].float(), mean, atol=1e-5, rtol=1e-4)
    flat = [torch.cat([gradient.flatten() for gradient in gradients.values()]) for gradients in own]
    assert cosine_similarity(*flat, dim=0) < 0.999  # the shares do not agree by themselves


def test_the_same_training_as_in_one_process(runs):
    """Only the order of sums differs."""
    one, two = (read_record(runs[name] / "out" / UNET) for name in ("one", "two"))
    assert len(one.history) == len(two.history) == SETTINGS["epochs"]
    for before, after in zip(one.history, two.history, strict=True):
        assert before.keys() == after.keys()
        assert after == pytest.approx(before | {"seconds": after["seconds"]}, rel=1e-6)
    assert numbers(two.metrics["test"]) == pytest.approx(numbers(one.metrics["test"]), abs=1e-6)
    assert min(one.metrics["test"]["iou"].values()) > 0.05  # a constant answer would be easy to agree on


def test_one_record_of_the_same_shape_is_written_once(runs):
    one, two = metrics(runs["one"]), metrics(runs["two"])
    assert numbers(one).keys() == numbers(two).keys()
    assert one["data"] == two["data"]
    assert two["device"] == f"2 × {one['device']}"
    assert listing(runs["one"] / "out").keys() == listing(runs["two"] / "out").keys()
    assert [note["written"] for note in notes(runs["two"])] == [1, 0]
    said = (runs["two"] / "output.txt").read_text()
    for once in ("Synthetic data", "epoch 1/4", "mean iou  ", "record: "):
        assert said.count(once) == 1, said


@pytest.mark.usefixtures("cpu")
def test_the_whole_test_split_is_scored_and_no_image_twice(runs, small, monkeypatch):
    assert [note["tested"] for note in notes(runs["two"])] == [23, 22]
    small(**SETTINGS)
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", norm_by_image)
    monkeypatch.setattr(fitting, "precision", lambda: "32-true")
    record = read_record(runs["two"] / "out" / UNET)
    alone = training.score_record(record, training.build_data(UNET, "tiny"))
    assert numbers(alone) == pytest.approx(numbers(record.metrics["test"]), rel=1e-5)


@pytest.mark.usefixtures("cpu")
def test_torchrun_starts_a_conditional_vae(runs):
    out = runs["torchrun"] / "out"
    record = read_record(out / f"{CVAE}+adversarial_weight=5")
    assert "train_discriminator" in record.history[-1]  # whose loss joins in after some steps
    assert record.metrics["device"].startswith("2 × ")
    alone = training.score_record(record, training.build_data(CVAE, "tiny"))
    test = record.metrics["test"]
    assert alone.keys() == test.keys()
    # The tolerance is half precision's, in which a number may depend on how many are computed with it; the scores of
    # one process's share differ by ten times as much.
    whole, shared = ({key: value for key, value in one.items() if isinstance(value, float)} for one in (alone, test))
    assert shared == pytest.approx(whole, rel=2e-3)
    assert sorted(path.name for path in out.iterdir()) == [
        "classifier-mnist",
        f"{CVAE}+adversarial_weight=5",
        "judge-mnist",
        "second-judge-mnist",
    ]


def test_a_loss_that_is_no_number_in_one_process_ends_all(runs):
    said = (runs["nan"] / "output.txt").read_text()
    assert "error: the loss became nan in epoch 2, step 1: train again with a learning rate below 0.01\n" in said
    assert "Traceback" not in said
    assert listing(runs["nan"] / "out") == {}
