"""From a store to batches on the device, as an ordinary Lightning data module."""

from collections.abc import Callable, Iterator

import lightning as L
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from s18_utils.data.store import SMALLEST, Batch, DataSet, Tensors, evenly_spread, to_floats
from s18_utils.errors import InputError, check_choice

Augment = Callable[[Tensor, Tensor, torch.Generator, int], tuple[Tensor, Tensor]]
VALIDATION_SHARE = 0.1
SPLIT_SEED = 18  # a cut of a data set is the same for every experiment and every training seed
MEMORY_SHARE = 0.25  # of the free memory of a GPU: the rest is for the network


class Subset(Dataset):
    """Some rows of a data set's tensors, which may be on a GPU: then so are the batches.

    A whole batch is gathered at once; one row at a time works as well.
    """

    def __init__(self, tensors: Tensors, rows: Tensor):
        if not len(rows):
            raise InputError("the split holds no images: use more data")
        self.tensors, self.rows = tensors, rows

    @property
    def device(self) -> torch.device:
        return self.tensors["image"].device

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor:
        """The label of each row, int64 (N,), on the CPU."""
        return self.tensors["label"][self.rows].long().cpu()

    def take(self, rows: Tensor) -> Batch:
        """A batch of some rows, as the store has them."""
        rows = self.rows[rows].to(self.device, non_blocking=True)
        return {name: tensor[rows] for name, tensor in self.tensors.items()}

    def __getitem__(self, index: int) -> Batch:
        return {name: tensor[self.rows[index]] for name, tensor in self.tensors.items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        """PyTorch's loaders call this with the indices of a batch; the result is the batch already."""
        return self.take(torch.tensor(indices))


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
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        return iter(torch.randperm(self.length, generator=generator).tolist())


class StoreData(L.LightningDataModule):
    """Training, validation and test batches of a data set.

    A batch has `image`, float (N, C, S, S) in [0, 1], and `mask`, int64 (N, S, S), or `label`, int64 (N,). Scaling and
    augmentation run on the device; on a GPU with room for it so does the whole store, and a batch never crosses the
    bus. A validation split is cut from the training images to choose checkpoints by; neither it nor the test split is
    ever augmented. Where several processes share a run, each serves its share of every batch.

    Args:
        data: what `open_data` returned.
        batch_size: images a step, over all processes.
        seed: of shuffling and augmentation.
        limit: use at most so many images of either split, drawn once and for all.
        augment: changes images and masks or labels of a training batch, as the functions of `augmentation` do; it is
            given these, a generator, and the side in pixels that is wanted.
        half_size_epochs: in the first so many epochs `augment` is asked for images of half the side.
        scored_on: `test`, or `validation`, which then takes the test split's place: for choosing between settings.
    """

    def __init__(
        self,
        data: DataSet,
        batch_size: int,
        *,
        seed: int = 0,
        limit: int | None = None,
        augment: Augment | None = None,
        half_size_epochs: int = 0,
        scored_on: str = "test",
    ):
        super().__init__()
        check_choice("split to score on", scored_on, ("test", "validation"))
        if half_size_epochs and augment is None:
            raise InputError("images of half the size are made by the augmentation: give one, or half_size_epochs=0")
        self.data, self.batch_size, self.seed, self.augment = data, batch_size, seed, augment
        self.half_size_epochs, self.scored_on = half_size_epochs, scored_on
        rows = draw_rows(data.train, limit)
        cut = max(1, round(len(rows) * VALIDATION_SHARE))
        self.train, self.val = Subset(data.train, rows[cut:]), Subset(data.train, rows[:cut])
        if scored_on == "test":
            self.test = Subset(data.test, draw_rows(data.test, limit).sort().values)
        else:
            self.test = Subset(data.train, rows[:cut].sort().values)

    @property
    def process_batch_size(self) -> int:
        """Images a step in one process."""
        processes = self.trainer.world_size if self.trainer else 1
        size = min(self.batch_size, len(self.train)) // processes
        if not size:
            raise InputError(f"a batch of {self.batch_size} can't be shared by {processes} processes: use a larger one")
        return size

    def examples(self, count: int) -> Batch:
        """Up to `count` test images spread evenly over the test split, always the same, as a float batch."""
        return to_floats(self.stored_examples(count))

    def stored_examples(self, count: int) -> Batch:
        """The same as `examples`, in uint8 as the store has them."""
        return self.test.take(evenly_spread(len(self.test), count))

    def test_batches(self, size: int) -> Iterator[Batch]:
        """The whole test split in its order, as float batches of up to `size` images."""
        for rows in torch.arange(len(self.test)).split(size):
            yield to_floats(self.test.take(rows))

    def describe(self) -> str:
        """One sentence on what the batches hold and where it came from."""
        scored = f"{len(self.test)} test" if self.scored_on == "test" else "no test"
        counts = f"{len(self.train)} training, {len(self.val)} validation and {scored} images at {self.data.size} px."
        if self.data.synthetic:
            return f"Synthetic data in place of {self.data.title}, drawn by s18_utils: {counts}"
        return f"{self.data.title} from {self.data.source}: {counts}"

    def setup(self, stage: str) -> None:
        """Moves the tensors that `stage` needs to the GPU, where there is one with room for them."""
        device = self.trainer.strategy.root_device
        subsets = (self.test,) if stage == "test" else (self.train, self.val)
        stored = subsets[0].tensors
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0  # others need no copy
        if sum(tensor.nbytes for tensor in stored.values()) <= MEMORY_SHARE * free:
            resident = {name: tensor.to(device) for name, tensor in stored.items()}
            for subset in subsets:
                subset.tensors = resident

    def teardown(self, stage: str | None = None) -> None:
        """Lets go of the GPU's memory."""
        self.train.tensors = self.val.tensors = self.data.train
        self.test.tensors = self.data.test if self.scored_on == "test" else self.data.train

    def train_dataloader(self) -> DataLoader:
        sampler = ShuffleByEpoch(len(self.train), self.seed)
        # A last batch of a few images would upset batch norm; the shuffle leaves out others each epoch.
        return self.make_loader(self.train, sampler, drop_last=len(self.train) >= self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return self.make_loader(self.val)

    def test_dataloader(self) -> DataLoader:
        sampler, trainer = None, self.trainer
        if trainer and trainer.world_size > 1:  # Lightning's other sampler would score some images twice
            sampler = UnrepeatedDistributedSampler(self.test, trainer.world_size, trainer.global_rank, shuffle=False)
        return self.make_loader(self.test, sampler)

    def make_loader(self, subset: Subset, sampler: Sampler | None = None, drop_last: bool = False) -> DataLoader:
        # Pinned memory is for CUDA: it is copied to the GPU while the CPU goes on.
        pinned = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            subset,
            self.process_batch_size,
            sampler=sampler,
            collate_fn=lambda batch: batch,  # `Subset` has made one batch of its rows already
            pin_memory=pinned and subset.device.type == "cpu",
            drop_last=drop_last,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        batch = to_floats(batch)
        if self.augment and self.trainer and self.trainer.training:
            size, truth = self.data.size, self.data.truth
            if self.trainer.current_epoch < self.half_size_epochs:
                size = max(SMALLEST, size // 2)
            generator = torch.Generator(batch["image"].device)
            generator.manual_seed(derive_seed(self.seed, self.trainer.global_step, self.trainer.global_rank))
            batch["image"], batch[truth] = self.augment(batch["image"], batch[truth], generator, size)
        # Convolutions run fastest on this layout, on CPUs with bf16 as on GPUs.
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        return batch


def draw_rows(tensors: Tensors, limit: int | None) -> Tensor:
    """Row numbers in a fixed random order, at most `limit` of them."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    return torch.randperm(len(tensors["image"]), generator=generator)[:limit]


def derive_seed(*parts: int) -> int:
    """One seed from several numbers; neighbours give unrelated seeds."""
    return hash(parts) & (2**63 - 1)
