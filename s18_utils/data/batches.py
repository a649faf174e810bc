"""From a store to batches on the device, as an ordinary Lightning data module."""

import copy
from collections.abc import Callable, Iterator

import lightning as L
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from s18_utils.data import DataSet
from s18_utils.errors import InputError

Batch = dict[str, Tensor]
Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
VALIDATION_SHARE = 0.1
SPLIT_SEED = 18  # the validation cut is the same for every experiment and every training seed
ROOM = 0.25  # of the free memory of a GPU: the rest is for the network


class Rows(Dataset):
    """Some rows of a data set's tensors. A whole batch is gathered at once; one row at a time works as well.

    The tensors may be on a GPU; then so are the batches.
    """

    def __init__(self, tensors: Batch, rows: Tensor):
        if not len(rows):
            raise InputError("the split holds no images: use more data")
        self.tensors, self.rows = tensors, rows

    @property
    def device(self) -> torch.device:
        return self.tensors["image"].device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return {name: tensor[self.rows[index]] for name, tensor in self.tensors.items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        """PyTorch's loaders call this with the indices of a batch; the result is the batch already."""
        rows = self.rows[torch.tensor(indices)].to(self.device, non_blocking=True)
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


class ShuffleByEpoch(Sampler[int]):
    """An order that depends on seed and epoch alone, so that a resumed run sees what an uninterrupted one would.

    Lightning calls `set_epoch`, and where several devices share the rows puts a sampler of its own around this one,
    which shuffles by seed and epoch as well.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(mix_seeds(self.seed, self.epoch))
        return iter(torch.randperm(self.length, generator=generator).tolist())


class InParts:
    """The batches of a batch sampler, each cut into so many parts, alike in size to within one row."""

    def __init__(self, batches: BatchSampler, parts: int):
        self.batches, self.parts = batches, parts
        self.sampler = batches.sampler  # whose epoch Lightning sets

    def __len__(self) -> int:
        return len(self.batches) * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield from (batch[part :: self.parts] for part in range(self.parts))


class StoreData(L.LightningDataModule):
    """Training, validation and test batches of a data set.

    A batch has `image`, float (N, C, H, W) in [0, 1], and `mask` or `label`, int64. Scaling and augmentation run on
    the device; on a GPU with room for it so does the whole store, and a batch never crosses the bus. A validation split
    is cut from the training images to choose checkpoints by; neither it nor the test split is ever augmented.

    Where several processes share a run, each serves its share of every batch.

    Args:
        data: what `open_data` returned.
        batch_size: images a step, over all processes and parts.
        seed: of shuffling and augmentation.
        limit: use at most so many images of either split, drawn once and for all.
        augment: changes images and masks or labels of a training batch, as the functions of `augmentation` do.
    """

    def __init__(
        self,
        data: DataSet,
        batch_size: int,
        seed: int = 0,
        limit: int | None = None,
        augment: Augment | None = None,
        half_size_epochs: int = 0,
    ):
        super().__init__()
        self.data, self.batch_size, self.seed, self.augment = data, batch_size, seed, augment
        self.half_size_epochs = half_size_epochs
        self.parts = 1
        rows = shuffled_rows(data.train, limit)
        cut = max(1, round(len(rows) * VALIDATION_SHARE))
        self.train, self.val = Rows(data.train, rows[cut:]), Rows(data.train, rows[:cut])
        self.test = Rows(data.test, shuffled_rows(data.test, limit).sort().values)

    def in_parts(self, parts: int) -> "StoreData":
        """The same batches, served in so many parts each, whose gradients are to be accumulated."""
        same = copy.copy(self)
        same.parts = parts
        same.teardown()
        return same

    @property
    def part_size(self) -> int:
        """Images that are on their way through the network at once, in one process."""
        processes = self.trainer.world_size if self.trainer else 1
        return min(self.batch_size, len(self.train)) // self.parts // processes

    @property
    def kind(self) -> str:
        """`synthetic` or `real`."""
        return "synthetic" if self.data.source == "synthetic" else "real"

    def examples(self, count: int) -> Batch:
        """Up to `count` test images spread evenly over the test split, always the same, as a float batch."""
        return to_floats(self.stored_examples(count))

    def stored_examples(self, count: int) -> Batch:
        """The same as `examples`, in uint8 as the store has them."""
        return self.test.__getitems__(evenly_spread(len(self.test), count).tolist())

    def describe(self) -> str:
        """One sentence on what the batches hold and where it came from."""
        counts = f"{len(self.train)} training, {len(self.val)} validation and {len(self.test)} test images"
        side = self.data.train["image"].shape[-1]
        if self.kind == "synthetic":
            return f"Synthetic {self.data.name}, drawn by s18_utils, no photographs: {counts} at {side} px."
        return f"{self.data.name} from {self.data.source}: {counts} at {side} px."

    def setup(self, stage: str) -> None:
        """Moves the tensors that `stage` needs to the GPU, where there is one with room for them."""
        device = self.trainer.strategy.root_device
        if device.type != "cuda":
            return
        splits = (self.test,) if stage == "test" else (self.train, self.val)
        stored = splits[0].tensors
        free, _ = torch.cuda.mem_get_info(device)
        if fits(stored, free):
            resident = {name: tensor.to(device) for name, tensor in stored.items()}
            for rows in splits:
                rows.tensors = resident

    def teardown(self, stage: str | None = None) -> None:
        """Lets go of the GPU's memory."""
        self.train.tensors = self.val.tensors = self.data.train
        self.test.tensors = self.data.test

    def train_dataloader(self) -> DataLoader:
        sampler = ShuffleByEpoch(len(self.train), self.seed)
        # A last batch of a few images would upset batch norm; the shuffle leaves out others each epoch.
        drop_last = len(self.train) >= self.batch_size
        if self.parts > 1:
            batches = InParts(BatchSampler(sampler, self.batch_size, drop_last), self.parts)
            return self.loader(self.train, batch_sampler=batches)
        return self.loader(self.train, batch_size=self.part_size, sampler=sampler, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader:
        return self.loader(self.val, batch_size=self.part_size)

    def test_dataloader(self) -> DataLoader:
        trainer = self.trainer
        if trainer and trainer.world_size > 1:  # Lightning's other sampler would score some images twice
            shares = UnrepeatedDistributedSampler(self.test, trainer.world_size, trainer.global_rank, shuffle=False)
            return self.loader(self.test, batch_size=self.part_size, sampler=shares)
        return self.loader(self.test, batch_size=self.part_size)

    @staticmethod
    def loader(rows: Rows, **options) -> DataLoader:
        pinned = torch.cuda.is_available() and rows.device.type == "cpu"
        return DataLoader(rows, collate_fn=keep, pin_memory=pinned, **options)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        batch = to_floats(batch)
        if self.augment and self.trainer and self.trainer.training:
            part = self.trainer.fit_loop.epoch_loop.batch_progress.current.completed % self.parts
            step = self.trainer.global_step * self.parts + part
            generator = torch.Generator(batch["image"].device)
            generator.manual_seed(mix_seeds(self.seed, step, self.trainer.global_rank))
            truth = "mask" if "mask" in batch else "label"
            small = (
                {"size": batch["image"].shape[-1] // 2} if self.trainer.current_epoch < self.half_size_epochs else {}
            )
            batch["image"], batch[truth] = self.augment(batch["image"], batch[truth], generator, **small)
        # Convolutions run fastest on this layout, on CPUs with bf16 as on GPUs.
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        return batch


def to_floats(batch: Batch) -> Batch:
    """A uint8 batch with `image` as float in [0, 1] and everything else as int64."""
    return {name: tensor.float() / 255 if name == "image" else tensor.long() for name, tensor in batch.items()}


def evenly_spread(length: int, count: int) -> Tensor:
    """Up to `count` row numbers from the first to the last of `length` rows."""
    return torch.linspace(0, length - 1, min(count, length)).long()


def fits(tensors: Batch, free: int) -> bool:
    """Whether the tensors take no more than their share, `ROOM`, of `free` bytes."""
    return sum(tensor.nbytes for tensor in tensors.values()) <= ROOM * free


def shuffled_rows(tensors: Batch, limit: int | None) -> Tensor:
    """Row numbers in a fixed random order, at most `limit` of them."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    return torch.randperm(len(tensors["image"]), generator=generator)[:limit]


def mix_seeds(*parts: int) -> int:
    """One seed from several numbers; neighbours give unrelated seeds."""
    return hash(parts) & (2**63 - 1)


def keep(batch: Batch) -> Batch:
    return batch
