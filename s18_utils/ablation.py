"""How the swap fares while a conditional VAE trains, with parts of its objective left out: for one plot."""

import torch

from s18_utils.cvae import CVAEModule
from s18_utils.cvae.losses import mismatched_labels
from s18_utils.data.batches import StoreData, to_floats
from s18_utils.device import device
from s18_utils.trainer import autocast

JUDGED = 500  # test images, each swapped once, at every look


def agreement_in_training(module: CVAEModule, data: StoreData, steps: int, looks: int = 8, seed: int = 0) -> list[dict]:
    """Trains a module for so many steps and has its swaps read along the way.

    Args:
        module: new, with its frozen CNN and judge attached.
        data: where training batches and test images come from.
        steps: optimiser steps.
        looks: how often to look, evenly spread, the last time at the end.
        seed: of the drawn numbers.

    Returns:
        For each look `step`, `judge` and `frozen`: the share of swapped drawings in which the judge, and the frozen
        CNN that the label loss listens to, read the asked label.
    """
    torch.manual_seed(seed)
    judge = module.to(device()).scores.judge.to(device())
    optimiser = torch.optim.AdamW(
        [
            {"params": [value for name, value in module.vae.named_parameters() if name != "log_sigma"]},
            {"params": [module.vae.log_sigma], "lr": 5 * module.hparams.learning_rate},
        ],
        lr=module.hparams.learning_rate,
        betas=(0.9, 0.99),
    )
    images, labels = (data.examples(JUDGED)[name].to(device()) for name in ("image", "label"))
    asked = mismatched_labels(labels.cpu(), torch.Generator().manual_seed(seed)).to(device())
    rows, batches = [], iter(())
    for step in range(steps):
        batch = next(batches, None)
        if batch is None:  # the next pass over the data
            batches = iter(data.train_dataloader())
            batch = next(batches)
        batch = to_floats({name: values.to(device()) for name, values in batch.items()})
        weight = module.label_weight_at(step / steps)
        with autocast():
            loss = module.train().terms(batch["image"], batch["label"], weight)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) * looks // steps > step * looks // steps:
            drawings = module.eval().swap(images, labels, asked)
            with torch.no_grad():
                shares = {
                    name: (net(drawings).argmax(1) == asked).float().mean().item()
                    for name, net in (("judge", judge), ("frozen", module.frozen))
                }
            rows.append({"step": step + 1, **shares})
    return rows
