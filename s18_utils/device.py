"""The device that everything computes on."""

import functools
import os

import torch

from s18_utils.progress import tell


@functools.cache
def device() -> torch.device:
    """A GPU that computes, else the CPU; a GPU that is there but broken is told about, once.

    Where several processes share a machine, each gets the GPU of its `LOCAL_RANK`, as torchrun and Lightning set it.
    """
    if torch.cuda.is_available():
        gpu = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        try:
            one = torch.ones(1, 1, 1, 1, device=gpu)
            torch.nn.functional.conv2d(one, one).item()  # `item` waits: a GPU reports its errors late
            return gpu
        except Exception as error:  # of many kinds; each means that it can't be used
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            tell(f"The GPU fails at the simplest task ({reason}): everything runs on the CPU instead.", warning=True)
    return torch.device("cpu")
