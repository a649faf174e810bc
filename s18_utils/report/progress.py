"""What is shown while a model trains, and the history that is kept of it; of several processes the first one speaks."""

import io
import math
import sys
import time
from collections.abc import Callable
from html import escape

import lightning as L
import torch
from IPython import get_ipython
from IPython.display import DisplayHandle, display
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from torch import Tensor

from s18_utils.report.table import Table


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this (JupyterLab, Colab, Kaggle, nbclient), not a terminal."""
    return getattr(get_ipython(), "kernel", None) is not None


@rank_zero_only
def display_message(message: str, warning: bool = False) -> None:
    """One sentence: a line in a terminal, a box in a notebook, coloured where it warns."""
    if in_notebook():
        colour = "#e69f00" if warning else "#8888"
        box = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; margin: 0.3em 0"
        display({"text/html": f"<div style='{box}'>{escape(message)}</div>", "text/plain": message}, raw=True)
    else:
        print(message, flush=True)


def display_anew(handle: DisplayHandle | None, content: dict, **about) -> DisplayHandle:
    """Displays something in a notebook, in the place of what a handle stands for if there is one."""
    if handle is None:
        return display(content, raw=True, display_id=True, **about)
    handle.update(content, raw=True, **about)
    return handle


class History(L.Callback):
    """Keeps a row of numbers for each epoch and displays it: a growing table in a notebook, a line elsewhere.

    The rows travel in checkpoints, so that a resumed run has those from before.
    """

    def __init__(self, title: str, seed: int):
        self.title, self.seed, self.rows = title, seed, []
        self.handle = None  # of the notebook's table

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        self.rows = list(state["rows"])

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.total = trainer.max_epochs
        self.display_rows()

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        scores = {name: metrics[name].item() for name in sorted(metrics, key=lambda name: name.startswith("val"))}
        seconds = round(time.perf_counter() - self.started, 2)
        self.rows.append({"seed": self.seed, "epoch": trainer.current_epoch + 1, "seconds": seconds, **scores})
        self.display_rows()

    @rank_zero_only
    def display_rows(self) -> None:
        """Updates the table, or prints the last row."""
        if in_notebook():
            content = {"text/html": self.to_html(), "text/plain": self.last_line()}
            self.handle = display_anew(self.handle, content)
        elif self.rows and not sys.stdout.isatty():
            print(self.last_line(), flush=True)

    def last_line(self) -> str:
        """The newest row as text."""
        if not self.rows:
            return f"{self.title}, seed {self.seed}: training, {self.total} epochs"
        row = self.rows[-1]
        scores = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scores_of(row).items())
        return f"{self.title}, seed {self.seed}: epoch {row['epoch']}/{self.total}, {row['seconds']:.1f} s, {scores}"

    def to_html(self) -> str:
        """All rows as a table."""
        # A score may join in after some epochs, as a loss term does that is warmed up.
        names = list(dict.fromkeys(name for row in reversed(self.rows) for name in scores_of(row)))
        rows = [
            [f"{row['epoch']} / {self.total}", f"{row['seconds']:.1f}"]
            + [f"{row[name]:.4f}" if name in row else "" for name in names]
            for row in self.rows
        ]
        table = Table(["epoch", "seconds", *(name.replace("_", " ") for name in names)], rows)._repr_html_()
        waiting = "" if self.rows else f"<p>training, {self.total} epochs …</p>"
        return f"<b>{escape(self.title)}</b>, seed {self.seed}{waiting}{table}"


def scores_of(row: dict) -> dict[str, float]:
    """A history row without what identifies it."""
    return {name: value for name, value in row.items() if name not in ("seed", "epoch", "seconds")}


class Filmstrip(L.Callback):
    """Keeps what a network makes of the same test images as it learns; in a notebook displays it after each epoch.

    Kept are a dozen of moments at most, the last step among them: ends of epochs, or steps where epochs are fewer than
    `EPOCHS`. They travel in checkpoints, so that a resumed run has those from before.

    Args:
        take: a snapshot of the module in evaluation mode, uint8; it draws no random numbers.
        draw: a picture of a snapshot, given with when it was taken, `after epoch 3`.
    """

    MOMENTS, EPOCHS = 12, 8

    def __init__(self, take: Callable[[L.LightningModule], Tensor], draw: Callable[[Tensor, str], Figure]):
        self.take, self.draw = take, draw
        self.snapshots, self.epochs = [], []
        self.handle = None  # of the notebook's picture

    @property
    def content(self) -> dict[str, Tensor]:
        """`snapshots` (E, …) and `snapshot_epochs` (E,), as a record keeps them; empty if there are none."""
        if not self.snapshots:
            return {}
        return {"snapshots": torch.stack(self.snapshots), "snapshot_epochs": torch.tensor(self.epochs)}

    def state_dict(self) -> dict:
        return {"snapshots": list(self.snapshots), "epochs": list(self.epochs)}

    def load_state_dict(self, state: dict) -> None:
        self.snapshots, self.epochs = list(state["snapshots"]), list(state["epochs"])

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        steps = int(trainer.estimated_stepping_batches)
        self.epoch_steps = steps / trainer.max_epochs
        unit = self.epoch_steps if trainer.max_epochs >= self.EPOCHS else 1
        count = min(self.MOMENTS, round(steps / unit))
        moments = torch.linspace(0, steps / unit, count + 1)[1:].round() * unit
        self.moments = set(moments.round().long().tolist()) - {0}

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int) -> None:
        if trainer.global_step in self.moments:
            self.snapshots.append(self.take_snapshot(module))
            self.epochs.append(trainer.global_step / self.epoch_steps)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if in_notebook():
            self.display_snapshot(self.take_snapshot(module), trainer.current_epoch + 1)

    def take_snapshot(self, module: L.LightningModule) -> Tensor:
        """A snapshot of a module in training, by `take`, which sees it in evaluation mode."""
        module.eval()
        try:
            return self.take(module)
        finally:
            module.train()

    @rank_zero_only
    def display_snapshot(self, snapshot: Tensor, epoch: int) -> None:
        """Puts the picture of a snapshot in the place of the one before."""
        file = io.BytesIO()
        figure = self.draw(snapshot, f"after epoch {epoch}")
        figure.savefig(file, format="png")
        text = f"The same test images after epoch {epoch}"
        about = {"image/png": {"alt": text, "width": round(100 * figure.get_figwidth())}}
        content = {"image/png": file.getvalue(), "text/plain": text}
        self.handle = display_anew(self.handle, content, metadata=about)


class FiniteLoss(L.Callback):
    """Stops a run whose loss is no longer finite, with a sentence that says what to do.

    On a CPU after the step in which it happened. Reading a value makes a GPU wait, and processes that share a run have
    to stop together, so there it is noted in the step and read when the epoch ends.
    """

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.finite_steps = torch.zeros((), dtype=torch.long, device=module.device)
        self.loss = torch.zeros((), device=module.device)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int) -> None:
        finite_so_far = torch.isfinite(self.loss)
        self.finite_steps += finite_so_far
        self.loss = torch.where(finite_so_far, outputs["loss"].detach().float(), self.loss)
        if module.device.type == "cpu" and trainer.world_size == 1:
            self.check(trainer, module)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.check(trainer, module)

    def check(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Ends the run, every process of it, if a loss so far was not finite; `finite_steps` counts up to that step."""
        loss = trainer.strategy.reduce(self.loss, reduce_op="sum").item()  # not finite if one of them is not
        if not math.isfinite(loss):
            step = int(trainer.strategy.reduce(self.finite_steps, reduce_op="min"))
            raise FloatingPointError(
                f"the loss became {loss} in epoch {trainer.current_epoch + 1}, step {step}: "
                f"train again with a learning rate below {module.hparams.learning_rate:g}"
            )
