"""What a run is spread over, in Lightning's words, and what the processes of one run say to each other."""

import os
import sys
from dataclasses import dataclass

import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only

from s18_utils.device import device
from s18_utils.errors import InputError, check_choice

# A process holds the whole model, and is a run of this program of its own: what it ends with is there to be written.
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")


@dataclass(frozen=True)
class Hardware:
    """The devices of one machine or of several; one process each.

    A batch is shared out evenly, so that the effective batch, and with it the learning rate, stays what it was.

    Attributes:
        devices: GPUs of each machine, or on a CPU processes.
        nodes: machines; all of them see the folder of the record.
        strategy: how the processes share the work, one of `STRATEGIES`.
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
        """Raises an InputError if that can't be had here, or can't share a batch of that size evenly."""
        if min(self.devices, self.nodes) < 1:
            raise InputError(f"{self.devices} devices on {self.nodes} nodes are none: use 1 or more of each")
        check_choice("strategy", self.strategy, STRATEGIES)
        self.check_start()
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

    def check_start(self) -> None:
        """Raises an InputError if this process was started as another number of them, or can't start the others."""
        if TorchElasticEnvironment.detect():
            each, all_of_them = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
            if (each, all_of_them) != (self.devices, self.processes):
                raise InputError(
                    f"torchrun started {each} processes here and {all_of_them} in all, not {self.devices} and "
                    f"{self.processes}: use --devices {each} --nodes {all_of_them // each}"
                )
        elif self.nodes > 1 and "MASTER_ADDR" not in os.environ and not SLURMEnvironment.detect():
            raise InputError(f"{self.nodes} machines have to be told of each other: start this on each with torchrun")
        if self.processes > 1 and hasattr(sys, "ps1"):
            raise InputError("a notebook can't be run by several processes: use `python -m s18_utils fit` instead")


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
