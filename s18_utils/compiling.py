"""When torch.compile is worth its time."""

import statistics
import time

import lightning as L
import torch


class CompileWhereItPays(L.Callback):
    """Compiles the networks of a module in the middle of a run on a GPU, if the rest of the run is long enough.

    Compiling takes about a minute and may save a fifth of every step after that. So a few steps are timed; if what is
    left of the run at that speed exceeds `LEAST_SECONDS`, the module's `networks` are compiled, steps are timed again,
    and where they are no faster the run goes on as before. Where compiling fails, as without a C compiler, it also goes
    on as before. Validation is never compiled: it would need graphs of its own.
    """

    LEAST_SECONDS = 240.0
    WARM_UP = 10  # steps, before and after compiling
    TIMED = 20
    BACKEND = "inductor"

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.watching = self.applies(module)
        self.stance = "default"  # of the compiler, while training
        self.eager = None  # seconds a step before compiling
        self.step, self.seconds = 0, []

    @staticmethod
    def applies(module: L.LightningModule) -> bool:
        return module.device.type == "cuda"

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch, batch_idx: int) -> None:
        if self.watching:
            self.started = now()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int) -> None:
        if not self.watching:
            return
        self.step += 1
        if self.step > self.WARM_UP:
            self.seconds.append(now() - self.started)
        if len(self.seconds) == self.TIMED:
            self.decide(trainer, module, statistics.median(self.seconds))
            self.step, self.seconds = 0, []

    def decide(self, trainer: L.Trainer, module: L.LightningModule, seconds: float) -> None:
        """Compiles, or not; the second time keeps what was compiled, or not."""
        if self.eager is None:
            self.eager = seconds
            left = int(trainer.estimated_stepping_batches) - trainer.global_step
            self.watching = left * seconds > self.LEAST_SECONDS
            if self.watching:
                torch._dynamo.config.suppress_errors = True
                for network in module.networks:
                    network.compile(backend=self.BACKEND)
        else:
            self.watching = False
            self.stance = "default" if seconds < self.eager else "force_eager"
            torch.compiler.set_stance(self.stance)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        torch.compiler.set_stance(self.stance)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        torch.compiler.set_stance("default")


def now() -> float:
    """Seconds, when all that was asked of the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
