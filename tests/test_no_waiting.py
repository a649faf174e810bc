"""No training step waits for the GPU: it never asks what a number on the GPU is.

Anywhere, by running the steps on the `meta` device, whose tensors have no numbers that could be looked at. And on a GPU
by having CUDA refuse to wait, which also sees copies and what Lightning does between the steps.
"""

from types import SimpleNamespace

import lightning as L
import pytest
import torch

from s18_utils.device import device, precision
from s18_utils.experiments import EXPERIMENTS, NETWORKS, build_settings, get_experiment, network_name
from s18_utils.fitting import Hardware, Reseed, build_trainer, quiet_lightning
from s18_utils.records import build_module
from s18_utils.report.progress import FiniteLoss, History
from s18_utils.training import AUGMENTATION, build_data

CVAES = [spec for spec in EXPERIMENTS.values() if spec.family == "cvae"]
ALL = [*EXPERIMENTS, *(network_name(spec, role) for spec in CVAES for role in NETWORKS)]
CHANNELS_AND_SIZE = {"pets": (3, 128), "mnist": (1, 28), "cifar10": (3, 32)}
on_gpu = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to wait for"),
    pytest.mark.skipif(precision() == "16-mixed", reason="scaling the loss for fp16 has to look at the gradients"),
]


def numberless(experiment: str, count: int = 8) -> dict[str, torch.Tensor]:
    """A batch of the experiment's shapes on the `meta` device."""
    data = get_experiment(experiment).block["data"]
    channels, side = CHANNELS_AND_SIZE[data]
    with torch.device("meta"):
        images = torch.rand(count, channels, side, side)
        shape = (count, side, side) if data == "pets" else (count,)
        return {"image": images, "mask" if data == "pets" else "label": torch.zeros(shape, dtype=torch.long)}


def new_module(experiment: str, preset: str) -> L.LightningModule:
    """The experiment's module, untrained."""
    spec = get_experiment(experiment)
    channels, size = CHANNELS_AND_SIZE[spec.block["data"]]
    classes = ("pet", "background", "border") if spec.family == "unet" else tuple("0123456789")
    data = {"classes": classes, "channels": channels, "size": size}
    return build_module(spec.family, build_settings(spec, preset), data)


@pytest.mark.parametrize("experiment", ALL)
def test_a_step_looks_at_no_number(monkeypatch, experiment):
    with torch.device("meta"):
        module = new_module(experiment, "full").train()
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
    settings = build_settings(get_experiment(experiment), "full")
    change, names = AUGMENTATION[type(settings)]
    images, truth = numberless(experiment).values()
    changed, same = change(images, truth, None, images.shape[-1], **{name: getattr(settings, name) for name in names})
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
    module = new_module(experiment, "tiny")
    with quiet_lightning():
        trainer = build_trainer(1, [Reseed(0), History("", 0), FiniteLoss(), watch], Hardware(), progress=False)
        trainer.fit(module.to(memory_format=torch.channels_last), data)
    assert watch.steps >= 5
