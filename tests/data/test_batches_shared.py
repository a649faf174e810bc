"""Batches of several processes, and from a store that lives on the device: always the same images."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from conftest import tensor_set
from test_batches import Watcher, mark, numbers

from s18_utils.data import batches
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError

# The pretended GPU is one that PyTorch does not see.
pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory'")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU for the store to live on")


def in_process(data: StoreData, rank: int, of: int) -> StoreData:
    """The data as the process of that rank sees them."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(world_size=of, global_rank=rank, strategy=strategy)
    return data


@pytest.mark.parametrize(("test", "processes"), [(7, 2), (10, 3), (11, 4), (8, 2), (4, 4)])
def test_processes_share_the_test_split_and_no_image_twice(test, processes):
    shares = [
        numbers(in_process(StoreData(tensor_set(40, test), 8), rank, processes).test_dataloader())
        for rank in range(processes)
    ]
    assert sorted(number for share in shares for number in share) == list(range(test))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert numbers(StoreData(tensor_set(40, test), 8).test_dataloader()) == list(range(test))


def test_a_process_takes_its_share_of_a_batch():
    data = in_process(StoreData(tensor_set(100), 16), rank=1, of=4)
    assert data.process_batch_size == 4
    assert [len(batch["image"]) for batch in data.train_dataloader()][0] == 4
    few = in_process(StoreData(tensor_set(20), 64), rank=0, of=3)  # of 64 images asked for, 18 are there
    assert few.process_batch_size == 6


def test_more_processes_than_images_in_a_batch_are_refused():
    data = in_process(StoreData(tensor_set(50), 2), rank=0, of=4)
    with pytest.raises(InputError, match="a batch of 2 can't be shared by 4 processes: use a larger one"):
        data.train_dataloader()


class Device:
    """A second device for a machine that has none: what is moved to it is a copy, and is counted."""

    type = "cuda"

    def __init__(self, free: int):
        self.free, self.moved = free, []


@pytest.fixture
def resident(monkeypatch):
    """Sets data up on a pretended GPU with so much memory free; gives what was moved to it."""

    def set_up(data: StoreData, stage: str, free: int) -> list[torch.Tensor]:
        device, to = Device(free), torch.Tensor.to

        def moved(tensor, where, *arguments, **options):
            if where is not device:
                return to(tensor, where, *arguments, **options)
            device.moved.append(tensor)
            return tensor.clone()

        monkeypatch.setattr(torch.Tensor, "to", moved)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (where.free, 2 * where.free))
        data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=device), world_size=1)
        data.setup(stage)
        return device.moved

    return set_up


def test_the_store_moves_to_a_gpu_with_room_for_it(resident):
    data, plain = StoreData(tensor_set(50), 8, seed=1), StoreData(tensor_set(50), 8, seed=1)
    store = dict(data.data.train)
    moved = resident(data, "fit", free=10**9)
    assert [tensor.data_ptr() for tensor in moved] == [tensor.data_ptr() for tensor in store.values()]
    assert data.train.tensors is data.val.tensors  # one copy for both
    assert data.train.tensors["image"].data_ptr() != store["image"].data_ptr()
    assert data.test.tensors is data.data.test  # whose turn is later
    for stage in ("train", "val"):
        ours, theirs = (getattr(one, f"{stage}_dataloader")() for one in (data, plain))
        for batch, expected in zip(ours, theirs, strict=True):
            assert all(torch.equal(batch[name], expected[name]) for name in expected)
    data.teardown("fit")
    assert data.train.tensors is data.val.tensors is data.data.train


def test_the_test_split_moves_when_it_is_its_turn(resident):
    data = StoreData(tensor_set(50, test=9), 4)
    resident(data, "test", free=10**9)
    assert data.train.tensors is data.data.train
    assert data.test.tensors is not data.data.test
    assert numbers(data.test_dataloader()) == list(range(9))


def test_a_store_takes_up_to_a_quarter_of_what_is_free(resident):
    size = sum(tensor.nbytes for tensor in tensor_set(50).train.values())
    assert len(resident(StoreData(tensor_set(50), 8), "fit", free=4 * size)) == 2
    data = StoreData(tensor_set(50), 8)
    assert resident(data, "fit", free=4 * size - 4) == []
    assert data.train.tensors is data.val.tensors is data.data.train


def train_on_gpu(monkeypatch, resident: bool) -> Watcher:
    monkeypatch.setattr(batches, "MEMORY_SHARE", float(resident))
    quiet = {f"enable_{name}": False for name in ("checkpointing", "progress_bar", "model_summary")}
    watcher = Watcher()
    trainer = L.Trainer(max_epochs=2, accelerator="cuda", devices=1, logger=False, **quiet)
    trainer.fit(watcher, StoreData(tensor_set(40), 8, augment=mark_on_device))
    return watcher


def mark_on_device(images, masks, generator, size):
    assert images.device.type == generator.device.type == "cuda"
    return mark(images.cpu(), masks.cpu(), torch.Generator().manual_seed(generator.initial_seed()), size)


@gpu
def test_the_same_batches_from_either_place(monkeypatch):
    away, there = (train_on_gpu(monkeypatch, resident).seen["train"] for resident in (False, True))
    assert len(away) == len(there) == 8
    for one, other in zip(away, there, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
