"""The command line on a small UNet, in one process or several, each of which notes what it did: for test_distributed.

What several processes do differently by design is taken out, so that the rest can be compared: batch statistics (of
the process's own share), augmentation (drawn by rank), and single precision: sums depend on how they are
cut up, and AdamW, whose first steps do not shrink with the gradient, amplifies that from step to step.
"""

import os
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from s18_utils import __main__ as command_line
from s18_utils import fitting, training
from s18_utils.experiments import EXPERIMENTS
from s18_utils.settings import UNetSettings
from s18_utils.unet.module import UNetModule

# 41 training images are no multiple of a batch, 4 validation images are one of two processes, 45 test images are not.
SETTINGS = dict(size=32, epochs=4, batch_size=8, width=4, learning_rate=1e-2, limit=45, source="synthetic")


def norm_by_image(norm: nn.BatchNorm2d, images: torch.Tensor) -> torch.Tensor:
    """In place of batch normalisation: the statistics are those of each image by itself."""
    return F.instance_norm(images, weight=norm.weight, bias=norm.bias)


def make_comparable() -> None:
    EXPERIMENTS["unet-maxpool-transpose-bce"].block.update(SETTINGS)
    training.AUGMENTATION[UNetSettings] = lambda images, masks, generator, size: (images, masks), ()
    fitting.precision = lambda: "64-true"
    forward = UNetModule.forward
    UNetModule.forward = lambda self, images: forward(self, images.to(self.dtype))
    training.draw_record = lambda *arguments: {}  # pictures take longer than the training
    nn.BatchNorm2d.forward = norm_by_image


def take_notes() -> dict:
    """The first batch and its gradients as the optimiser gets them, how many images were scored, records written."""
    notes = {"gradients": {}, "tested": 0, "written": 0}
    training_step, test_step, write_record = UNetModule.training_step, UNetModule.test_step, training.write_record

    def train(module, batch, batch_idx):
        notes.setdefault("batch", {name: tensor.clone() for name, tensor in batch.items()})
        if os.environ.get("S18_NAN_IN_RANK") == str(module.global_rank) and module.current_epoch == 1:
            return training_step(module, batch, batch_idx) * float("nan")
        return training_step(module, batch, batch_idx)

    def before_step(module, optimiser):
        if module.global_step == 0:
            notes["gradients"] = {name: tensor.grad.clone() for name, tensor in module.named_parameters()}

    def test(module, batch, batch_idx):
        notes["tested"] += len(batch["image"])
        return test_step(module, batch, batch_idx)

    def write(*arguments):
        notes["written"] += 1
        return write_record(*arguments)

    UNetModule.training_step, UNetModule.test_step, training.write_record = train, test, write
    UNetModule.on_before_optimizer_step = before_step
    return notes


if __name__ == "__main__":
    make_comparable()
    notes = take_notes()
    try:
        command_line.main()
    finally:
        torch.save(notes, Path(os.environ["S18_NOTES"]) / f"rank-{os.environ.get('LOCAL_RANK', 0)}.pt")
