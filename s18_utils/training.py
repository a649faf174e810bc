"""The one function that trains every experiment: `train_or_load`."""

import contextlib
import json
import logging
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from s18_utils import plots, records
from s18_utils.data import DataSet, open_data
from s18_utils.data.augmentation import augment_pets
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.experiments import Experiment, get_experiment
from s18_utils.presets import Preset, default_preset, get_preset
from s18_utils.progress import FiniteLoss, History, TerminalBar, in_notebook, tell
from s18_utils.records import Record

AUGMENT = {"pets": augment_pets}


def build_module(experiment: Experiment, settings: dict) -> L.LightningModule:
    """A new, untrained module of an experiment with the scale in `settings`."""
    from s18_utils.unet import UNetModule

    return {"unet": UNetModule}[experiment.family](**experiment.model, **settings)


def build_data(experiment: str, preset: str | None = None, source: str | None = None, seed: int = 0) -> StoreData:
    """The data module of an experiment; see `open_data` for what can go wrong."""
    settings = get_preset(experiment, preset or default_preset())
    data = open_data(get_experiment(experiment).data, settings.size, source or settings.source)
    return batches_of(data, settings, seed)


def batches_of(data: DataSet, settings: Preset, seed: int) -> StoreData:
    return StoreData(data, settings.batch_size, seed, settings.limit, AUGMENT.get(data.name))


def train_or_load(
    experiment: str,
    preset: str | None = None,
    *,
    source: str | None = None,
    seeds: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    retrain: bool = False,
) -> Record:
    """The record of an experiment: an existing one of the same settings and data, else a newly trained one.

    Training keeps the weights of the epoch with the best validation score and scores them once on the test split.
    Interrupting it keeps what was reached, as a record that says so.

    Args:
        experiment: a name in `EXPERIMENTS`.
        preset: `tiny`, `quick` or `full`; by default what suits the device.
        source: where the data come from, see `data.sources`; by default the preset's.
        seeds: train so many times, with seeds 0, 1, …; the record then holds mean and spread.
        out: folder for the record; by default `runs/<preset>`.
        resume: go on from the last finished epoch of a run that was interrupted.
        retrain: train even if there is such a record.

    Raises:
        InputError: an unknown name, data that can't be had, a folder that can't be written to.
        FloatingPointError: the loss became infinite or no number.
    """
    spec, preset = get_experiment(experiment), preset or default_preset()
    settings = get_preset(experiment, preset)
    if seeds < 1:
        raise InputError(f"seeds is how many times to train, not {seeds}: use 1 or more")
    data = open_data(spec.data, settings.size, source or settings.source)
    first = batches_of(data, settings, seed=0)
    tell(first.describe(), warning=data.source == "synthetic")

    config = {"experiment": experiment, "preset": preset, "seeds": seeds, **asdict(settings)}
    config |= {"source": data.source, "fingerprint": data.fingerprint}
    folder = Path(out or records.runs_folder(preset)) / experiment
    kept = records.find_record(experiment, preset, out)
    if kept and not retrain:
        asked_for_real = (source or settings.source) != "synthetic"
        if is_repeated(kept, config, any_real_data=asked_for_real and data.source == "synthetic", resume=resume):
            tell(f"Loaded from {kept.folder}: {plots.provenance(kept)}", warning=kept.synthetic)
            return kept
        if kept.folder == folder and kept.metrics["preset"] != preset:
            raise InputError(
                f"{folder} holds a record of preset {kept.metrics['preset']}: "
                "choose another folder, or retrain to replace it"
            )

    partial = start_folder(records.make_folder(folder.parent) / f".{experiment}.training", config, resume)
    runs: list[Run] = []
    try:
        for seed in range(seeds):
            runs.append(train_seed(spec, settings, batches_of(data, settings, seed), seed, partial / f"seed-{seed}"))
            if runs[-1].interrupted:
                break
    except FloatingPointError:
        shutil.rmtree(partial)
        raise
    except KeyboardInterrupt as error:
        if not runs:
            if not any(partial.rglob("*.ckpt")):
                shutil.rmtree(partial)
            tell(str(error), warning=True)
            raise
        runs[-1].interrupted = True
    record = write(spec, preset, first, runs, config, folder)
    if record.metrics["interrupted"]:
        tell(
            f"Interrupted: kept the best weights so far in {folder}; resume to go on from the last epoch.", warning=True
        )
    else:
        shutil.rmtree(partial)
    return record


def start_folder(partial: Path, config: dict, resume: bool) -> Path:
    """Makes the folder of a running training, or checks that the one to go on from was run with `config`."""
    if not resume:
        shutil.rmtree(partial, ignore_errors=True)
    started = partial / "config.json"
    if started.is_file():
        before = records.read_json(started)
        other = [key for key in config if key not in ("seeds", "source") and before.get(key) != config[key]]
        if other:
            raise InputError(
                f"the interrupted run in {partial.parent} had another {' and '.join(other)}: "
                "resume it as it was started, or start again without resume"
            )
    records.make_folder(partial)
    records.write_json(started, config)
    return partial


def is_repeated(kept: Record, config: dict, any_real_data: bool, resume: bool) -> bool:
    """Whether a run with `config` would only repeat the record that was kept.

    With `any_real_data` a record trained on real data serves as well: for a reader who has none at hand.
    """
    if not kept.has_weights or (kept.metrics["interrupted"] and resume):
        return False
    same = {key for key in config if kept.config.get(key) == config[key]}
    missing = set(config) - same - {"source"}  # the same bytes by another way are the same data
    return not missing or (any_real_data and not kept.synthetic and missing == {"fingerprint"})


@dataclass
class Run:
    """What training with one seed gave: scores, a history row an epoch, and the best epoch's weights."""

    seed: int
    test: dict
    validation: dict
    history: list[dict]
    weights: dict[str, torch.Tensor]
    interrupted: bool = False


def train_seed(spec: Experiment, settings: Preset, data: StoreData, seed: int, folder: Path) -> Run:
    """Trains once, going on from `folder` if an earlier try left something there, and scores the best epoch."""
    best_file, last_file, result_file = folder / "best.ckpt", folder / "last.ckpt", folder / "result.json"
    if result_file.is_file():
        return Run(**json.loads(result_file.read_text()), weights=read_weights(best_file))
    L.seed_everything(seed, workers=True, verbose=False)
    module = build_module(spec, settings.module).to(memory_format=torch.channels_last)
    monitor, mode = module.monitor
    history = History(spec.title, seed)
    # Two files: the best epoch's weights, and all that it takes to go on from the last epoch.
    keep = {"dirpath": folder, "save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(filename="best", monitor=monitor, mode=mode, save_weights_only=True, **keep)
    last = ModelCheckpoint(filename="last", **keep)
    with quiet():
        trainer = build_trainer(settings.epochs, [history, FiniteLoss(), best, last])
        checkpoint = last_file if last_file.is_file() else None
        interrupted = was_interrupted(trainer, lambda: trainer.fit(module, data, ckpt_path=checkpoint))
        if not best_file.is_file():
            raise KeyboardInterrupt("Interrupted before the first epoch ended: nothing was kept.")
        weights = read_weights(best_file)
        module.load_state_dict(weights)
        test = score(module, data)
    choose = max if mode == "max" else min
    row = choose(history.rows, key=lambda row: row[monitor])
    validation = {name: value for name, value in row.items() if name.startswith("val_")}
    run = Run(seed, test, validation, history.rows, weights, interrupted)
    if not interrupted:
        result_file.write_text(json.dumps({key: value for key, value in vars(run).items() if key != "weights"}))
    return run


def score(module: L.LightningModule, data: StoreData) -> dict:
    """The module's scores on the whole test split."""
    with quiet():
        trainer = build_trainer(1, [], progress=False)
        if was_interrupted(trainer, lambda: trainer.test(module, data, verbose=False)):
            raise KeyboardInterrupt("Interrupted while scoring: resume to go on.")
    return module.test_results


def write(spec: Experiment, preset: str, data: StoreData, runs: list[Run], config: dict, folder: Path) -> Record:
    """Turns finished runs into a record with its figures."""
    history = [row for run in runs for row in run.history]
    test, spread = records.summarise([run.test for run in runs])
    validation, _ = records.summarise([run.validation for run in runs])
    module = build_module(spec, config["module"])
    module.load_state_dict(runs[0].weights)
    metrics = {
        "experiment": spec.name,
        "preset": preset,
        "data": {
            "name": data.data.name,
            "source": data.data.source,
            "size": config["size"],
            "train": len(data.train),
            "val": len(data.val),
            "test": len(data.test),
            "fingerprint": data.data.fingerprint,
        },
        "device": describe_device(),
        "precision": precision(),
        "epochs": max(row["epoch"] for row in history),
        "interrupted": runs[-1].interrupted,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "seeds": [run.seed for run in runs],
        **records.surroundings(),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "validation": validation,
        "test": test,
        "spread": spread,
    }
    record = Record(folder, metrics, history)
    figures = {"curves": plots.curves(record), "predictions": plots.predictions(record, module.eval(), data)}
    return records.write_record(record, config, runs[0].weights, figures)


def build_trainer(epochs: int, callbacks: list[L.Callback], progress: bool = True) -> L.Trainer:
    """A Lightning trainer for one device, in the fastest precision it computes in natively."""
    bar = progress and sys.stdout.isatty() and not in_notebook()
    return L.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        precision=precision(),
        callbacks=callbacks + ([TerminalBar()] if bar else []),
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def was_interrupted(trainer: L.Trainer, work: Callable[[], object]) -> bool:
    """Does the trainer's work; returns whether the user interrupted it."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        work()
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other …
        if not trainer.interrupted:
            raise
    finally:
        if in_main_thread:  # … and ignores any further interrupt
            signal.signal(signal.SIGINT, handler)
    return trainer.interrupted


def precision() -> str:
    """bf16 where the device multiplies in it natively, fp16 on older GPUs, else fp32; in Lightning's words."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    # Without these instructions a CPU emulates bf16, slower than fp32.
    native = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
    return "bf16-mixed" if any(asks and asks() for asks in native) else "32-true"


def describe_device() -> str:
    """The GPU's name, or the CPU with the number of threads used."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's notices about hardware and loaders out of notebooks and terminals."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Workers would only slow down a loader whose batches are one gather each.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", module="lightning.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
