"""When memory runs out: the same steps on the same batches in parts, a word about it, and an end to it."""

import copy
import re
import weakref

import pytest
import torch
from conftest import assert_one_sentence, listing, tensor_set
from shared_run import norm_by_image

from s18_utils import memory, trainer, training
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.memory import with_enough_memory
from s18_utils.training import train_or_load
from s18_utils.unet import UNetModule

NAME = "unet-maxpool-transpose-bce"
pytestmark = pytest.mark.usefixtures("small")


class Steps:
    """Counts a training's parts and steps, and gives it memory for `most` images at a time."""

    def __init__(self, monkeypatch, most: int):
        self.most, self.parts, self.steps, self.scored = most, [], [], []
        train, test, optimise = UNetModule.training_step, UNetModule.test_step, UNetModule.optimizer_step

        def training_step(module, batch, batch_idx):
            self.parts.append(self.hold(batch))
            return train(module, batch, batch_idx)

        def test_step(module, batch, batch_idx):
            self.scored.append(self.hold(batch))
            return test(module, batch, batch_idx)

        def optimizer_step(module, *arguments, **options):
            optimise(module, *arguments, **options)
            self.steps.append(module.global_step)

        for name, step in (
            ("training_step", training_step),
            ("test_step", test_step),
            ("optimizer_step", optimizer_step),
        ):
            monkeypatch.setattr(UNetModule, name, step)

    def hold(self, batch) -> int:
        count = len(batch["image"])
        if count > self.most:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {count} images.")
        return count


@pytest.fixture
def plain(monkeypatch, cpu) -> None:
    """Takes out what differs between a batch and its parts: batch statistics, augmentation, half precision.

    And steps by plain SGD, for AdamW does not mind gradients that are twice as large.
    """
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", norm_by_image)
    monkeypatch.setitem(training.AUGMENT, "pets", lambda images, masks, generator: (images, masks))
    monkeypatch.setattr(trainer, "precision", lambda: "32-true")
    monkeypatch.setattr(UNetModule, "configure_optimizers", lambda module: torch.optim.SGD(module.parameters(), lr=0.1))


def final_weights(monkeypatch) -> dict:
    """Of the training to come, filled at its end."""
    caught = {}
    monkeypatch.setattr(UNetModule, "on_train_end", lambda module: caught.update(copy.deepcopy(module.state_dict())))
    return caught


def train(monkeypatch, out, most: int):
    """A training with memory for so many images: its record, its steps and its final weights."""
    with monkeypatch.context() as patch:
        weights, steps = final_weights(patch), Steps(patch, most)
        return train_or_load(NAME, "tiny", out=out), steps, weights


@pytest.mark.parametrize(("most", "tried"), [(4, [4]), (3, [4, 2])])
def test_the_same_training_with_less_memory(plain, monkeypatch, tmp_path, capsys, most, tried):
    whole, whole_steps, whole_weights = train(monkeypatch, tmp_path / "whole", most=24)
    assert "memory" not in capsys.readouterr().out
    record, steps, weights = train(monkeypatch, tmp_path / "parts", most)
    said = [line for line in capsys.readouterr().out.splitlines() if "memory" in line]
    assert all("does not hold a batch of 8 images" in line for line in said)
    sizes = [int(re.search(r"going on with (\d+) at a time", line)[1]) for line in said]
    assert sizes == tried + tried  # in training, and in scoring
    part = tried[-1]
    assert steps.steps == whole_steps.steps == [0, 1, 2, 3]  # two epochs of 22 images
    assert set(steps.parts) == {part}
    assert len(steps.parts) == len(whole_steps.parts) * 8 // part
    assert sum(steps.scored) == sum(whole_steps.scored) == 24
    assert max(steps.scored) <= most
    torch.testing.assert_close(weights, whole_weights, atol=1e-5, rtol=1e-4)
    assert record.metrics["test"]["loss"] == pytest.approx(whole.metrics["test"]["loss"], rel=1e-4)
    assert [row["train_loss"] for row in record.history] == pytest.approx(
        [row["train_loss"] for row in whole.history], rel=1e-4
    )
    assert record.config == whole.config
    assert listing(tmp_path / "parts").keys() == listing(tmp_path / "whole").keys()


def test_memory_that_runs_out_later_costs_no_finished_epoch(plain, monkeypatch, tmp_path):
    whole, whole_steps, whole_weights = train(monkeypatch, tmp_path / "whole", most=24)
    with monkeypatch.context() as patch:
        weights, steps = final_weights(patch), Steps(patch, most=24)
        start = UNetModule.on_train_epoch_start

        def shrink(module):
            start(module)
            steps.most = 24 if module.current_epoch == 0 else 4

        patch.setattr(UNetModule, "on_train_epoch_start", shrink)
        record = train_or_load(NAME, "tiny", out=tmp_path / "cut")
    assert steps.parts == [8, 8, 4, 4, 4, 4]
    assert steps.steps == whole_steps.steps
    assert [row["epoch"] for row in record.history] == [1, 2]
    torch.testing.assert_close(weights, whole_weights, atol=1e-5, rtol=1e-4)


def test_a_run_in_parts_can_be_interrupted_and_resumed(plain, small, monkeypatch, tmp_path):
    small(epochs=3)
    _, whole_steps, whole_weights = train(monkeypatch, tmp_path / "whole", most=24)
    with monkeypatch.context() as patch:
        steps = Steps(patch, most=4)
        hold, interrupts = steps.hold, [KeyboardInterrupt]

        def interrupted(batch):
            if len(steps.parts) == 5 and interrupts:  # in the middle of the second epoch, and of a step
                raise interrupts.pop()
            return hold(batch)

        steps.hold = interrupted
        stopped = train_or_load(NAME, "tiny", out=tmp_path / "parts")
    assert stopped.metrics["interrupted"]
    assert stopped.metrics["epochs"] == 1
    with monkeypatch.context() as patch:
        weights, steps = final_weights(patch), Steps(patch, most=4)
        resumed = train_or_load(NAME, "tiny", out=tmp_path / "parts", resume=True)
    assert not resumed.metrics["interrupted"]
    assert steps.steps == whole_steps.steps[2:]
    torch.testing.assert_close(weights, whole_weights, atol=1e-5, rtol=1e-4)


def test_no_memory_at_all_is_said_in_one_sentence(monkeypatch, tmp_path):
    Steps(monkeypatch, most=1)
    with pytest.raises(InputError) as caught:
        train_or_load(NAME, "tiny", out=tmp_path)
    assert_one_sentence(str(caught.value), "not even 2 images fit into the memory of ", "use a smaller preset")
    assert listing(tmp_path) == {}


def data(size: int = 8) -> StoreData:
    return StoreData(tensor_set(20), size)


def test_parts_are_halved_until_it_works(capsys):
    tried = []

    def work(data: StoreData) -> str:
        tried.append(data.part_size)
        if data.part_size > 2:
            raise torch.OutOfMemoryError("no room")
        return "done"

    assert with_enough_memory(work, data()) == "done"
    assert tried == [8, 4, 2]
    assert capsys.readouterr().out.count("\n") == 2


@pytest.mark.parametrize(
    "message", ["CUDA out of memory. Tried to allocate 2 GiB", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."]
)
def test_memory_also_runs_out_in_other_words(message):
    errors = iter([RuntimeError(message)])

    def work(data: StoreData) -> int:
        for error in errors:
            raise error
        return data.parts

    assert with_enough_memory(work, data()) == 2


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("out of memory"), KeyboardInterrupt()])
def test_other_errors_are_not_tried_again(error):
    tried = []

    def work(data: StoreData) -> None:
        tried.append(data)
        raise error

    with pytest.raises(type(error)):
        with_enough_memory(work, data())
    assert len(tried) == 1


def test_the_step_that_failed_is_let_go_before_the_next_try():
    """Else its tensors would fill the memory that the parts are to fit into."""
    alive = []

    def work(data: StoreData) -> bool:
        if data.parts == 1:
            tensor = torch.zeros(3)
            alive.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("no room")
        return alive[0]() is None

    assert with_enough_memory(work, data())


def test_processes_that_share_a_run_do_not_try_again(monkeypatch):
    monkeypatch.setattr(memory, "is_shared", lambda: True)

    def work(data: StoreData) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(InputError) as caught:
        with_enough_memory(work, data())
    assert_one_sentence(str(caught.value), "a batch of 8 images does not fit into the memory", "use more of them")
