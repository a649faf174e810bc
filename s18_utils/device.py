"""The device that everything computes on, and the precision that it computes in."""

import functools
import os

import torch

from s18_utils.report.progress import display_message


@functools.cache
def device() -> torch.device:
    """A GPU (NVIDIA's, AMD's or Apple's) that computes, else the CPU; a broken GPU is reported, once.

    Where several processes share a machine, each gets the GPU of its `LOCAL_RANK`, as torchrun and Lightning set it.
    """
    candidates = []
    if torch.cuda.is_available():
        candidates.append(torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))))
    if torch.backends.mps.is_available():
        candidates.append(torch.device("mps"))
    for gpu in candidates:
        try:
            one = torch.ones(1, 1, 1, 1, device=gpu)
            torch.nn.functional.conv2d(one, one).item()  # `item` waits: a GPU reports its errors late
            return gpu
        except Exception as error:  # of many kinds; each means that it can't be used
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            display_message(
                f"The GPU fails at the simplest task ({reason}): everything runs on the CPU instead.", warning=True
            )
    return torch.device("cpu")


def precision() -> str:
    """bf16 where the device multiplies in it natively, fp16 on older NVIDIA GPUs, else fp32; in Lightning's words."""
    if device().type == "cuda":
        return "bf16-mixed" if torch.cuda.get_device_capability(device()) >= (8, 0) else "16-mixed"
    if device().type == "mps":
        return "32-true"
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
    if one.type == "cuda":
        name = torch.cuda.get_device_name(one)
    elif one.type == "mps":
        name = "Apple GPU"
    else:
        threads = torch.get_num_threads()
        name = f"CPU, {threads} thread{'s' * (threads > 1)}"
    return name if processes == 1 else f"{processes} × {name}"


def synchronise() -> None:
    """Waits until all that was asked of the GPU is done, for what measures time."""
    if device().type == "cuda":
        torch.cuda.synchronize()
    elif device().type == "mps":
        torch.mps.synchronize()
