"""What a run is spread over, in Lightning's words, and what the processes of one run say to each other."""

from dataclasses import dataclass

import torch
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities import rank_zero_only

from s18_utils.device import device
from s18_utils.errors import InputError, check_choice


@dataclass(frozen=True)
class Hardware:
    """The devices of one machine or of several; one process each.

    A batch is shared out evenly, so that the effective batch, and with it the learning rate, stays what it was.

    Attributes:
        devices: GPUs of each machine, or on a CPU processes.
        nodes: machines; all of them see the folder of the record.
        strategy: how the processes share the work, a name that Lightning knows, such as `ddp`.
        sync_batchnorm: batch normalisation takes its statistics over all GPUs.
    """

    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False

    @property
    def processes(self) -> int:
        return self.devices * self.nodes

    def check(self, batch_size: int) -> None:
        """Raises an InputError if this machine does not have it, or can't share a batch of that size evenly."""
        if min(self.devices, self.nodes) < 1:
            raise InputError(f"{self.devices} devices on {self.nodes} nodes are none: use 1 or more of each")
        check_choice("strategy", self.strategy, ["auto", *StrategyRegistry.available_strategies()])
        on_gpu = device().type == "cuda"
        if on_gpu and self.devices > torch.cuda.device_count():
            there = torch.cuda.device_count()
            raise InputError(f"this machine has {there} GPUs, not {self.devices}: use --devices {there}")
        if self.sync_batchnorm and not on_gpu:
            raise InputError("batch normalisation can be synchronised between GPUs only: leave out --sync-batchnorm")
        if batch_size % self.processes:
            raise InputError(
                f"a batch of {batch_size} images can't be shared evenly by {self.processes} processes: "
                "use a number of devices that divides it"
            )


ONE_DEVICE = Hardware()


def is_first_process() -> bool:
    """Whether this process is the one that writes and speaks; true where there is no other."""
    return rank_zero_only.rank == 0


def is_shared() -> bool:
    """Whether other processes take part in the run."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def wait_for_others() -> None:
    """Returns when every process of the run has come here."""
    if is_shared():
        torch.distributed.barrier()


def gather(thing) -> list:
    """What every process of the run has as its `thing`, in the order of their ranks."""
    if not is_shared():
        return [thing]
    things = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(things, thing)
    return things
