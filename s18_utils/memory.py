"""What to do when memory runs out: go on with a batch in parts."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch
from lightning.pytorch.utilities.memory import is_oom_error

from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.hardware import is_shared
from s18_utils.progress import tell
from s18_utils.trainer import describe_device

Result = TypeVar("Result")


def with_enough_memory(work: Callable[[StoreData], Result], data: StoreData) -> Result:
    """Does the work; each time that memory runs out, again with every batch in twice as many parts.

    The gradients of the parts are accumulated, so that a step still sees the whole batch. Only batch normalisation
    notices, whose statistics are those of a part, and the Dice loss, which is then a mean over parts.

    Args:
        work: trains or scores, going on from where an earlier try left off.
        data: the batches to do it with.

    Raises:
        InputError: not even two images at a time fit, or several processes share the run, which can't agree on it.
    """
    while True:
        try:
            return work(data)
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or is_oom_error(error)):
                raise
        # Not inside of the handler: the error holds on to the tensors of the step that failed.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if is_shared():
            raise InputError(
                f"a batch of {data.batch_size} images does not fit into the memory of the devices: use more of them"
            )
        data = data.in_parts(2 * data.parts)
        if data.part_size < 2:
            raise InputError(f"not even 2 images fit into the memory of {describe_device()}: use a smaller preset")
        tell(
            f"The memory of {describe_device()} does not hold a batch of {data.batch_size} images: going on with "
            f"{data.part_size} at a time, their gradients accumulated, so that a step still sees all of them.",
            warning=True,
        )
