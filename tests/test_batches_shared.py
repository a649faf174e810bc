"""Batches in parts, of several processes, and from a store that lives on the device: always the same images."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from conftest import tensor_set
from test_batches import Watcher, mark, numbers
from torch.utils.data import BatchSampler

from s18_utils.data import batches
from s18_utils.data.batches import InParts, StoreData, fits

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU for the store to live on")


def in_process(data: StoreData, rank: int, of: int) -> StoreData:
    """The data as the process of that rank sees them."""
    data.trainer = SimpleNamespace(world_size=of, global_rank=rank)
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
    assert data.part_size == 4
    assert data.in_parts(2).part_size == 2
    assert [len(batch["image"]) for batch in data.train_dataloader()][0] == 4


@pytest.mark.parametrize(
    ("train", "size", "parts", "part_size"), [(50, 8, 1, 8), (50, 8, 2, 4), (50, 9, 2, 4), (20, 64, 2, 9)]
)
def test_the_size_of_a_part(train, size, parts, part_size):
    """What is halved is what goes through the network: of 64 images asked for, 18 are there."""
    assert StoreData(tensor_set(train), size).in_parts(parts).part_size == part_size


@pytest.mark.parametrize(("size", "parts"), [(8, 2), (8, 4), (9, 2), (7, 3)])
def test_parts_make_up_the_same_batches(size, parts):
    whole = [numbers([batch]) for batch in StoreData(tensor_set(50), size, seed=3).train_dataloader()]
    loader = StoreData(tensor_set(50), size, seed=3).in_parts(parts).train_dataloader()
    served = [numbers([batch]) for batch in loader]
    assert len(served) == len(loader) == parts * len(whole)
    for number, batch in enumerate(whole):
        cut = served[number * parts : (number + 1) * parts]
        assert sorted(sum(cut, [])) == sorted(batch)
        assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_parts_follow_the_order_of_the_epoch():
    sampler = batches.ShuffleByEpoch(20, seed=0)
    parts = InParts(BatchSampler(sampler, 10, drop_last=True), 2)
    first = list(parts)
    parts.sampler.set_epoch(1)
    assert list(parts) != first
    assert sorted(sum(parts, [])) == list(range(20))


def test_parts_leave_the_data_as_they_were():
    data = StoreData(tensor_set(50), 8)
    assert data.in_parts(4).parts == 4
    assert data.parts == 1
    assert data.in_parts(2).in_parts(4).part_size == 2


def test_a_store_fits_into_a_quarter_of_what_is_free():
    store = {"image": torch.zeros(10, 3, 4, 4, dtype=torch.uint8), "mask": torch.zeros(10, 4, 4, dtype=torch.uint8)}
    assert fits(store, free=4 * 640)
    assert not fits(store, free=4 * 640 - 4)


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


def test_a_store_too_large_for_the_gpu_stays_where_it_is(resident):
    data = StoreData(tensor_set(50), 8)
    assert resident(data, "fit", free=1000) == []
    assert data.train.tensors is data.val.tensors is data.data.train


def train_on_gpu(monkeypatch, resident: bool) -> Watcher:
    monkeypatch.setattr(batches, "fits", lambda tensors, free: resident)
    quiet = {f"enable_{name}": False for name in ("checkpointing", "progress_bar", "model_summary")}
    watcher = Watcher()
    trainer = L.Trainer(max_epochs=2, accelerator="cuda", devices=1, logger=False, **quiet)
    trainer.fit(watcher, StoreData(tensor_set(40), 8, augment=mark_on_device))
    return watcher


def mark_on_device(images, masks, generator):
    assert images.device.type == generator.device.type == "cuda"
    return mark(images.cpu(), masks.cpu(), torch.Generator().manual_seed(generator.initial_seed()))


@gpu
def test_the_same_batches_from_either_place(monkeypatch):
    away, there = (train_on_gpu(monkeypatch, resident).seen["train"] for resident in (False, True))
    assert len(away) == len(there) == 8
    for one, other in zip(away, there, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
