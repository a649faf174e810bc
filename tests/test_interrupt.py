"""Interrupted trainings: what is kept, what is resumed and equals a run that was not interrupted, what is refused."""

import os
import signal
from collections.abc import Iterator

import pytest
from conftest import (
    assert_one_sentence,
    equal,
    interrupt,
    interrupt_in,
    listing,
    names,
    on_cpu,
    refused,
    weights,
    without_seconds,
)

from s18_utils import training
from s18_utils.errors import InputError
from s18_utils.runs import locked
from s18_utils.training import train_or_load
from s18_utils.unet.module import UNetModule

NAME = "unet-maxpool-transpose-bce"
pytestmark = pytest.mark.usefixtures("small")


@on_cpu
@pytest.mark.parametrize("spoilt", [0, 1], ids=["whole", "a spoilt checkpoint costs an epoch"])
def test_interrupted_and_resumed_equals_uninterrupted(small, tmp_path, monkeypatch, capsys, spoilt):
    small(epochs=4)
    whole = train_or_load(NAME, "tiny", out=tmp_path / "whole")
    for epoch in (1, 2):
        interrupt_in(monkeypatch, UNetModule, epoch, batch=1)
        stopped = train_or_load(NAME, "tiny", out=tmp_path / "cut")
        assert stopped.metrics["interrupted"]
        assert [row["epoch"] for row in stopped.history] == list(range(1, epoch + 1))
    if spoilt:
        newest = max((tmp_path / "cut" / f".{NAME}.training" / "seed-0").glob("epoch-*.ckpt"))
        newest.write_bytes(newest.read_bytes()[:1000])
    resumed = train_or_load(NAME, "tiny", out=tmp_path / "cut")
    assert ("going on from the epoch before" in capsys.readouterr().out) == spoilt
    assert not resumed.metrics["interrupted"]
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    seconds = [[row["seconds"] for row in record.history[: 2 - spoilt]] for record in (stopped, resumed)]
    assert seconds[0] == seconds[1]  # not trained again
    assert equal(weights(resumed), weights(whole))
    assert resumed.metrics["test"] == whole.metrics["test"]
    assert names(tmp_path / "cut") == [NAME]
    assert equal(resumed.stored_examples, whole.stored_examples)
    assert resumed.stored_examples["snapshot_epochs"].tolist() == [0.5 * n for n in range(1, 9)]  # two steps an epoch


@pytest.fixture
def heard() -> Iterator[None]:
    """Interrupts are heard, also where the tests run in the background of a shell that has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupt_keeps_a_usable_record(small, tmp_path, monkeypatch, trained, capsys):
    small(epochs=3)
    handler = signal.getsignal(signal.SIGINT)
    interrupt_in(monkeypatch, UNetModule, 2, batch=1, how=lambda: signal.raise_signal(signal.SIGINT))
    record = train_or_load(NAME, "tiny", out=tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "Interrupted: kept the best weights so far" in capsys.readouterr().out
    assert record.metrics["interrupted"]
    assert record.metrics["epochs"] == 2
    best = max(record.history, key=lambda row: row["val_mean_iou"])
    assert record.metrics["validation"]["val_mean_iou"] == best["val_mean_iou"]
    data = training.build_data(NAME, "tiny")
    assert training.score_record(record, data) == record.test
    assert trained == [0]
    assert not train_or_load(NAME, "tiny", out=tmp_path).metrics["interrupted"]
    with pytest.raises(KeyboardInterrupt):  # the next one is heard too
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_the_first_epoch_leaves_nothing(tmp_path, monkeypatch, capsys):
    handler = signal.getsignal(signal.SIGINT)
    interrupt_in(monkeypatch, UNetModule, 0, batch=1)
    with pytest.raises(KeyboardInterrupt):
        train_or_load(NAME, "tiny", out=tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert listing(tmp_path).keys() <= {"runs"}
    assert "nothing was kept" in capsys.readouterr().out


def test_an_interrupt_in_the_first_epoch_of_a_later_seed_keeps_the_earlier_ones(tmp_path, monkeypatch, trained):
    steps = UNetModule.training_step
    monkeypatch.setattr(
        UNetModule, "training_step", lambda self, *batch: interrupt() if len(trained) == 2 else steps(self, *batch)
    )
    record = train_or_load(NAME, "tiny", seeds=3, out=tmp_path)
    assert record.metrics["interrupted"]
    assert record.metrics["seeds"] == [0]
    monkeypatch.setattr(UNetModule, "training_step", steps)
    resumed = train_or_load(NAME, "tiny", seeds=3, out=tmp_path)
    assert resumed.metrics["seeds"] == [0, 1, 2]
    assert without_seconds(resumed.history[:2]) == without_seconds(record.history)
    assert {row["seconds"] for row in resumed.history[:2]} == {
        row["seconds"] for row in record.history
    }  # not run again
    assert not resumed.metrics["interrupted"]


def test_an_interrupt_while_scoring_loses_no_training(tmp_path, monkeypatch, capsys):
    handler = signal.getsignal(signal.SIGINT)
    step = UNetModule.test_step
    monkeypatch.setattr(UNetModule, "test_step", lambda *arguments: interrupt())
    with pytest.raises(KeyboardInterrupt):
        train_or_load(NAME, "tiny", out=tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "run this again to go on" in capsys.readouterr().out
    monkeypatch.setattr(UNetModule, "test_step", step)
    interrupt_in(monkeypatch, UNetModule, 0, batch=1)
    interrupt_in(monkeypatch, UNetModule, 1, batch=1)
    record = train_or_load(NAME, "tiny", out=tmp_path)  # trains no step more
    assert not record.metrics["interrupted"]
    assert record.metrics["epochs"] == 2


@pytest.mark.parametrize("more", [{"retrain": True}, {"seeds": 2}], ids=["retrained", "more seeds"])
def test_an_interrupt_replaces_no_finished_record(small, tmp_path, monkeypatch, capsys, more):
    small(epochs=3)
    train_or_load(NAME, "tiny", out=tmp_path)
    before = listing(tmp_path / NAME)
    step, begun = UNetModule.training_step, []

    def stop_in_the_second_epoch(self, *batch):
        begun.append(self.current_epoch)
        return interrupt() if self.current_epoch == 1 else step(self, *batch)

    monkeypatch.setattr(UNetModule, "training_step", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        train_or_load(NAME, "tiny", out=tmp_path, **more)
    assert begun
    assert listing(tmp_path / NAME) == before
    said = capsys.readouterr().out
    assert "stays as it was" in said
    monkeypatch.setattr(UNetModule, "training_step", step)
    if "retrain" in more:  # as the sentence says
        (tmp_path / NAME).rename(tmp_path / "away")
        more = {}
    again = train_or_load(NAME, "tiny", out=tmp_path, **more)
    assert not again.metrics["interrupted"]
    assert not (tmp_path / f".{NAME}.training").exists()


def test_a_run_cannot_be_resumed_as_another_and_retrain_forgets_it(small, tmp_path, monkeypatch):
    small(epochs=3)
    interrupt_in(monkeypatch, UNetModule, 2, batch=1)
    train_or_load(NAME, "tiny", out=tmp_path)
    before, same = listing(tmp_path), {"epochs": 3, "width": 4, "limit": 24}
    for name, value in {"epochs": 5, "width": 6, "limit": 20}.items():
        small(**same | {name: value})
        with refused(f"{name}=", "retrain"):
            train_or_load(NAME, "tiny", out=tmp_path)
        assert listing(tmp_path) == before
    interrupt_in(monkeypatch, UNetModule, 1, batch=1)
    again = train_or_load(NAME, "tiny", out=tmp_path, retrain=True)
    assert [row["epoch"] for row in again.history] == [1]


def test_another_process_at_the_same_training_is_refused(tmp_path):
    partial = tmp_path / f".{NAME}.training"
    with locked(partial), pytest.raises(InputError) as caught:
        train_or_load(NAME, "tiny", out=tmp_path)
    assert_one_sentence(str(caught.value), f"process {os.getpid()} on", "is training in", "wait for it")
    assert train_or_load(NAME, "tiny", out=tmp_path).metrics["epochs"] == 2  # the lock is gone with its holder
