"""Training with one seed: what it gives, going on where an earlier try left off, and scoring."""

import json
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from s18_utils.compiling import CompileWhereItPays
from s18_utils.data.batches import StoreData
from s18_utils.experiments import Experiment
from s18_utils.hardware import ONE_DEVICE, Hardware, is_first_process
from s18_utils.memory import with_enough_memory
from s18_utils.presets import Preset
from s18_utils.progress import FiniteLoss, History
from s18_utils.records import Record
from s18_utils.trainer import Reseed, build_trainer, quiet, was_interrupted


@dataclass
class Run:
    """What training with one seed gave: scores, a history row an epoch, and the best epoch's weights."""

    seed: int
    test: dict
    validation: dict
    history: list[dict]
    weights: dict[str, torch.Tensor]
    interrupted: bool = False


def train_seed(
    spec: Experiment,
    settings: Preset,
    data: StoreData,
    seed: int,
    folder: Path,
    helpers: dict[str, Record],
    hardware: Hardware,
    resume: bool,
) -> Run:
    """Trains once and scores the best epoch; with `resume` goes on from what an earlier try left in `folder`."""
    best_file, last_file, result_file = folder / "best.ckpt", folder / "last.ckpt", folder / "result.json"
    if resume and result_file.is_file():
        return Run(**json.loads(result_file.read_text()), weights=read_weights(best_file))
    history = History(spec.title, seed)
    tries = 0

    def fit(data: StoreData) -> tuple[L.LightningModule, bool]:
        nonlocal tries
        tries += 1
        L.seed_everything(seed, workers=True, verbose=False)
        module = spec.build(settings.module).to(memory_format=torch.channels_last)
        if helpers:
            module.attach(**helpers)
        monitor, mode = module.monitor
        # Two files: the best epoch's weights, and all that it takes to go on from the last epoch.
        keep = {"dirpath": folder, "save_on_train_epoch_end": True, "enable_version_counter": False}
        best = ModelCheckpoint(filename="best", monitor=monitor, mode=mode, save_weights_only=True, **keep)
        last = ModelCheckpoint(filename="last", **keep)
        callbacks = [Reseed(seed), CompileWhereItPays(), history, FiniteLoss(), best, last]
        trainer = build_trainer(settings.epochs, callbacks, hardware, data.parts)
        checkpoint = last_file if (resume or tries > 1) and last_file.is_file() else None
        return module, was_interrupted(trainer, lambda: trainer.fit(module, data, ckpt_path=checkpoint))

    with quiet():
        module, interrupted = with_enough_memory(fit, data)
    if not best_file.is_file():
        raise KeyboardInterrupt("Interrupted before the first epoch ended: nothing was kept.")
    weights = read_weights(best_file)
    module.load_state_dict(weights)
    test = score(module, data, hardware)
    monitor, mode = module.monitor
    choose = max if mode == "max" else min
    row = choose(history.rows, key=lambda row: row[monitor])
    validation = {name: value for name, value in row.items() if name.startswith("val_")}
    run = Run(seed, test, validation, history.rows, weights, interrupted)
    if not interrupted and is_first_process():
        result_file.write_text(json.dumps({key: value for key, value in vars(run).items() if key != "weights"}))
    return run


def score(module: L.LightningModule, data: StoreData, hardware: Hardware = ONE_DEVICE) -> dict:
    """The module's scores on the whole test split."""

    def test(data: StoreData) -> dict:
        trainer = build_trainer(1, [], hardware, progress=False)
        if was_interrupted(trainer, lambda: trainer.test(module, data, verbose=False)):
            raise KeyboardInterrupt("Interrupted while scoring: resume to go on.")
        return module.test_results

    with quiet():
        return with_enough_memory(test, data)


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's weights as they are kept: in half precision, and what is scored is what is kept."""
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return {name: halved(values) for name, values in weights.items()}


def halved(values: torch.Tensor) -> torch.Tensor:
    """Floats in half precision, unless one of them would become infinite there."""
    half = values.half() if values.is_floating_point() else values
    return half if half.isfinite().all() else values
