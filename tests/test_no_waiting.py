"""No training step waits for the GPU: it never asks what a number on the GPU is.

Anywhere, by running the steps on the `meta` device, whose tensors have no numbers that could be looked at. And on a GPU
by having CUDA refuse to wait, which also sees copies and what Lightning does between the steps.
"""

import functools
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from s18_utils.device import device
from s18_utils.experiments import CLASSIFIERS, EXPERIMENTS, get_experiment
from s18_utils.presets import get_preset
from s18_utils.progress import FiniteLoss, History
from s18_utils.trainer import Reseed, build_trainer, precision, quiet
from s18_utils.training import AUGMENT, build_data

ALL = [*EXPERIMENTS, *CLASSIFIERS]
on_gpu = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to wait for"),
    pytest.mark.skipif(precision() == "16-mixed", reason="scaling the loss for fp16 has to look at the gradients"),
]


def numberless(experiment: str, count: int = 8) -> dict[str, torch.Tensor]:
    """A batch of the experiment's shapes on the `meta` device."""
    side, data = get_preset(experiment, "full").size, get_experiment(experiment).data
    with torch.device("meta"):
        images = torch.rand(count, 1 if data == "mnist" else 3, side, side)
        shape = (count, side, side) if data == "pets" else (count,)
        return {"image": images, "mask" if data == "pets" else "label": torch.zeros(shape, dtype=torch.long)}


@pytest.mark.parametrize("experiment", ALL)
def test_a_step_looks_at_no_number(monkeypatch, experiment):
    with torch.device("meta"):
        module = get_experiment(experiment).build(get_preset(experiment, "full").module).train()
    # Late in a run, when every term of a loss takes part.
    run = SimpleNamespace(global_step=90, estimated_stepping_batches=100, world_size=1, current_epoch=0)
    monkeypatch.setattr(module, "_trainer", run)
    monkeypatch.setattr(type(module), "global_step", run.global_step)
    for name in ("log", "log_dict"):
        monkeypatch.setattr(module, name, lambda *arguments, **options: None)
    watch = FiniteLoss()
    watch.on_train_epoch_start(run, module)
    loss = module.training_step(numberless(experiment), 0)
    loss.backward()
    watch.on_train_batch_end(run, module, {"loss": loss}, None, 0)
    with pytest.raises(RuntimeError, match="meta"):
        loss.item()  # what the test is about


@pytest.mark.parametrize("experiment", ALL)
def test_nor_does_augmentation(experiment):
    augment = functools.partial(AUGMENT[get_experiment(experiment).data], **get_preset(experiment, "full").augment)
    images, truth = numberless(experiment).values()
    changed, same = augment(images, truth, None)
    assert (changed.shape, same.shape) == (images.shape, truth.shape)


class NoWaiting(L.Callback):
    """Has CUDA refuse to wait, from the end of the first step to that of the last."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("default" if trainer.is_last_batch else "error")
        self.steps = batch_idx + 1


@pytest.fixture
def forgiving_again():
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("forgiving_again")
@pytest.mark.parametrize("experiment", [pytest.param(name, marks=on_gpu) for name in ALL])
def test_a_gpu_is_not_waited_for(experiment):
    assert device().type == "cuda"
    data, watch = build_data(experiment, "tiny"), NoWaiting()
    module = get_experiment(experiment).build(get_preset(experiment, "tiny").module)
    with quiet():
        trainer = build_trainer(1, [Reseed(0), History("", 0), FiniteLoss(), watch], progress=False)
        trainer.fit(module.to(memory_format=torch.channels_last), data)
    assert watch.steps >= 5
