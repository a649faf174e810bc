"""Training with one seed under Lightning, going on where an earlier try left off, and scoring."""

import contextlib
import json
import logging
import platform
import signal
import statistics
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.memory import is_oom_error
from safetensors import SafetensorError

from s18_utils import __version__
from s18_utils.cvae.judging import score_swaps
from s18_utils.cvae.module import CVAEModule
from s18_utils.data.batches import StoreData, derive_seed
from s18_utils.data.store import load_tensors, save_tensors
from s18_utils.device import describe_device, device, precision
from s18_utils.errors import InputError, replacing, write_text
from s18_utils.report.progress import Filmstrip, FiniteLoss, History, display_message, in_notebook
from s18_utils.runs import RESULT

HERE = Path(__file__).resolve().parent
PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy")


@dataclass(frozen=True)
class Hardware:
    """The devices to train on, in Lightning's words and handed to its trainer as they are.

    A batch is shared out evenly, so that the effective batch, and with it the learning rate, stays what it was.
    """

    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"

    @property
    def processes(self) -> int:
        return self.devices * self.num_nodes


class Reseed(L.Callback):
    """Sets the random state by seed and epoch, so that a resumed run draws what an uninterrupted one would."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch, batch_idx: int) -> None:
        if batch_idx == 0:  # when the epoch starts is too early: a loader may yet draw a number, or have drawn it
            torch.manual_seed(derive_seed(self.seed, trainer.current_epoch, trainer.global_rank))


class Checkpoints(ModelCheckpoint):
    """Checkpoints of a folder that may be moved: Lightning would forget which epoch was the best."""

    def load_state_dict(self, state: dict) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath) / Path(path).name) if path else path

        paths = {name: here(state[name]) for name in state if name.endswith("_path")}
        kept = {here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state | paths | {"dirpath": self.dirpath, "best_k_models": kept})


@dataclass
class SeedResult:
    """What training with one seed gave: scores, a history row an epoch, the best epoch's weights, and snapshots."""

    seed: int
    test: dict
    validation: dict
    history: list[dict]
    weights: dict[str, torch.Tensor]
    interrupted: bool = False
    snapshots: dict[str, torch.Tensor] = field(default_factory=dict)


def train_seed(
    build: Callable[[], L.LightningModule],
    data: StoreData,
    seed: int,
    epochs: int,
    title: str,
    folder: Path,
    hardware: Hardware,
    filmstrip: Filmstrip | None = None,
) -> SeedResult:
    """Trains once and scores the best epoch; goes on from what an earlier try left in `folder`.

    Args:
        build: makes the untrained module, called after the seed is set.
        data: its batches.
        seed: of weights, shuffles and augmentation.
        epochs: how many to train in all.
        title: shown while it trains.
        folder: for checkpoints; after each epoch it holds all that it takes to go on.
        hardware: the devices to train on.
        filmstrip: keeps snapshots; None for none.

    Raises:
        KeyboardInterrupt: interrupted before the first epoch ended.
        InputError: the memory does not hold a batch, or the disk is full.
    """
    result_file = folder / RESULT
    if finished := read_result(result_file):
        return finished
    history = History(title, seed)
    L.seed_everything(seed, workers=True, verbose=False)
    module = build().to(memory_format=torch.channels_last)
    monitor, mode = module.monitor
    # The best epoch's weights, and all that it takes to go on from each of the last two epochs: if a crash or a full
    # disk spoils the newer one, the older one is there.
    keep = {"dirpath": folder, "save_on_train_epoch_end": True, "enable_version_counter": False}
    best = Checkpoints(filename="best", monitor=monitor, mode=mode, save_weights_only=True, **keep)
    last = Checkpoints(filename="epoch-{epoch:04d}", monitor="epoch", mode="max", save_top_k=2, **keep)
    last.auto_insert_metric_name = False
    checkpoint = newest_checkpoint(folder)
    with quiet_lightning(), one_sentence(data):
        watching = [filmstrip] if filmstrip else []
        trainer = build_trainer(epochs, [Reseed(seed), history, FiniteLoss(), *watching, best, last], hardware)
        interrupted = was_interrupted(trainer, lambda: trainer.fit(module, data, ckpt_path=checkpoint))
    if not (folder / "best.ckpt").is_file():
        raise KeyboardInterrupt("Interrupted before the first epoch ended: nothing was kept.")
    weights = read_weights(folder / "best.ckpt")
    module.load_state_dict(weights)
    test = score_module(module, data, hardware)
    choose = max if mode == "max" else min
    row = choose(history.rows, key=lambda row: row[monitor])
    validation = {name: value for name, value in row.items() if name.startswith("val_")}
    snapshots = filmstrip.content if filmstrip else {}
    result = SeedResult(seed, test, validation, history.rows, weights, interrupted, snapshots)
    if not interrupted and trainer.is_global_zero:
        write_result(result_file, result)
    return result


def read_result(file: Path) -> SeedResult | None:
    """A finished seed's result, or None if there is none that can be read: it is then scored again."""
    try:
        content = json.loads(file.read_text())
        snapshots = file.with_name("snapshots.safetensors")
        content["snapshots"] = load_tensors(snapshots) if snapshots.is_file() else {}
        return SeedResult(**content, weights=load_tensors(file.with_suffix(".safetensors")))
    except (OSError, ValueError, TypeError, SafetensorError):
        return None


def write_result(file: Path, result: SeedResult) -> None:
    """Keeps a finished seed's result; the JSON file, which says that it is finished, comes last and whole."""
    content = asdict(result)
    save_tensors(content.pop("weights"), file.with_suffix(".safetensors"))
    if snapshots := content.pop("snapshots"):
        save_tensors(snapshots, file.with_name("snapshots.safetensors"))
    write_text(file, json.dumps(content))


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the last epoch that is whole; one that can't be read is reported and passed over."""
    best = folder / "best.ckpt"
    if best.is_file() and (fault := find_fault(best)):
        raise InputError(
            f"{best}, the weights of the best epoch so far, is damaged ({fault}): delete {folder} to start over"
        )
    for file in sorted(folder.glob("epoch-*.ckpt"), reverse=True):
        if not (fault := find_fault(file)):
            return file
        display_message(f"{file} can't be used ({fault}): going on from the epoch before.", warning=True)
        file.rename(file.with_suffix(".unreadable"))
    return None


def find_fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if it is whole. Code that it might carry is not run."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if part := archive.testzip():
                return f"{part} in it has changed"
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: cut off, altered, no checkpoint at all
        return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:100]
    return None


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there in one step, which Lightning does on some disks only."""

    def save_checkpoint(self, checkpoint: dict, path: str | Path, storage_options: object = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(path)) as partial:
            torch.save(checkpoint, partial)


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's weights as they are kept: in half precision, and what is scored is what is kept."""
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return {name: to_half(values) for name, values in weights.items()}


def to_half(values: torch.Tensor) -> torch.Tensor:
    """Floats in half precision, unless one of them would become infinite there."""
    half = values.half() if values.is_floating_point() else values
    return half if half.isfinite().all() else values


def score_module(module: L.LightningModule, data: StoreData, hardware: Hardware = Hardware()) -> dict:  # noqa: B008
    """The module's scores on the whole test split; an InputError if the memory does not hold a batch."""
    if isinstance(module, CVAEModule):  # it is scored by its drawings, with networks that are no part of it
        with one_sentence(data, scoring=True):
            return score_swaps(module, data)
    with quiet_lightning(), one_sentence(data, scoring=True):
        trainer = build_trainer(1, [], hardware, progress=False)
        if was_interrupted(trainer, lambda: trainer.test(module, data, verbose=False)):
            raise KeyboardInterrupt("Interrupted while scoring: run this again to go on.")
    return module.test_results


def build_trainer(epochs: int, callbacks: list[L.Callback], hardware: Hardware, progress: bool = True) -> L.Trainer:
    """A Lightning trainer in the fastest precision that the device computes in natively.

    Args:
        epochs: how many to train in all.
        callbacks: Lightning's and ours.
        hardware: the devices to use.
        progress: show a bar, in a terminal.

    Raises:
        InputError: there are no such devices, or Lightning has no such strategy.
    """
    bar = progress and sys.stdout.isatty() and not in_notebook()
    try:
        return L.Trainer(
            max_epochs=epochs,
            accelerator=device().type,
            **asdict(hardware),
            precision=precision(),
            benchmark=device().type == "cuda",  # cuDNN tries its ways to convolve, once for each size
            plugins=[WholeCheckpoints()],
            callbacks=callbacks + ([TQDMProgressBar(leave=True)] if bar else []),
            logger=False,
            enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
            enable_progress_bar=bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except (ValueError, MisconfigurationException) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        raise InputError(f"Lightning can't train so ({reason}): change devices, nodes or strategy") from error


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


@contextlib.contextmanager
def one_sentence(data: StoreData, scoring: bool = False) -> Iterator[None]:
    """Turns what the user can do something about, too little memory or a full disk, into an InputError."""
    stopped = "scoring stopped" if scoring else "training stopped, and all epochs before this one are kept"
    again = f"{stopped}: free some space and run this again to go on"
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.strerror or error}, so that {again}") from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or is_oom_error(error):
            remedy = f"use batch_size={max(2, data.batch_size // 2)}"
            if scoring:
                remedy = "free some of it, or score on a CPU with CUDA_VISIBLE_DEVICES=''"
            raise InputError(
                f"the memory of {describe_device()} does not hold a batch of {data.batch_size} images: {remedy}"
            ) from error
        if "write failed" in str(error) or "No space left" in str(error) or "unexpected pos" in str(error):
            raise InputError(f"a checkpoint could not be written, so that {again}") from error
        raise


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
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


def summarise_seeds(results: list[dict]) -> tuple[dict, dict]:
    """Mean and sample standard deviation over seeds, key by key through nested dicts (no spread for one seed)."""

    def over_seeds(statistic, values: list):
        if isinstance(values[0], dict):
            return {key: over_seeds(statistic, [value[key] for value in values]) for key in values[0]}
        if isinstance(values[0], list):
            return [over_seeds(statistic, list(items)) for items in zip(*values, strict=True)]
        return None if None in values else statistic(values)

    mean = over_seeds(statistics.fmean, results)
    return mean, over_seeds(statistics.stdev, results) if len(results) > 1 else {}


def describe_surroundings() -> dict:
    """What a number depends on beside data and code: the versions, and the commit of a checkout."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {"commit": find_commit(), "versions": versions}


def find_commit() -> str:
    """The short hash of the checkout this package runs from, with `+` if files differ from it; else its version."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", HERE, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        tracked = git("ls-files", "--", __file__)
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "") if tracked else __version__
    except (OSError, subprocess.CalledProcessError):
        return __version__
