"""How Lightning is set up here: device and precision, progress, interrupts, and the random state of every epoch."""

import contextlib
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from s18_utils.data.batches import mix_seeds
from s18_utils.device import device
from s18_utils.hardware import ONE_DEVICE, Hardware
from s18_utils.progress import TerminalBar, in_notebook


class Reseed(L.Callback):
    """Sets the random state by seed and epoch, so that a resumed run draws what an uninterrupted one would."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch, batch_idx: int) -> None:
        if batch_idx == 0:  # when the epoch starts is too early: a loader may yet draw a number, or have drawn it
            torch.manual_seed(mix_seeds(self.seed, trainer.current_epoch, trainer.global_rank))


def build_trainer(
    epochs: int,
    callbacks: list[L.Callback],
    hardware: Hardware = ONE_DEVICE,
    parts: int = 1,
    progress: bool = True,
) -> L.Trainer:
    """A Lightning trainer in the fastest precision that the device computes in natively.

    Args:
        epochs: how many to train in all.
        callbacks: Lightning's and ours.
        hardware: the devices to use.
        parts: batches whose gradients are accumulated into one step.
        progress: show a bar, in a terminal.
    """
    bar = progress and sys.stdout.isatty() and not in_notebook()
    return L.Trainer(
        max_epochs=epochs,
        accelerator=device().type,
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        strategy=hardware.strategy,
        sync_batchnorm=hardware.sync_batchnorm,
        precision=precision(),
        benchmark=device().type == "cuda",  # cuDNN tries its ways to convolve; shapes stay the same
        accumulate_grad_batches=parts,
        callbacks=callbacks + ([TerminalBar()] if bar else []),
        logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
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
    if device().type == "cuda":
        return "bf16-mixed" if torch.cuda.get_device_capability(device()) >= (8, 0) else "16-mixed"
    # Without these instructions a CPU emulates bf16, slower than fp32.
    native = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
    return "bf16-mixed" if any(asks and asks() for asks in native) else "32-true"


def autocast() -> torch.autocast:
    """The trainer's precision, for what runs outside of it."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision())
    return torch.autocast(device().type, dtype, enabled=dtype is not None)


def describe_device(processes: int = 1) -> str:
    """The GPU's name, or the CPU with the number of threads used; of so many processes."""
    one = device()
    name = torch.cuda.get_device_name(one) if one.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return name if processes == 1 else f"{processes} × {name}"


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
