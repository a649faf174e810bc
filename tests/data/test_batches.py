"""Batches: every image once an epoch, splits that do not overlap, augmentation in training alone."""

import lightning as L
import pytest
import torch
from conftest import tensor_set

from s18_utils.data.batches import ShuffleByEpoch, StoreData, Subset, derive_seed
from s18_utils.data.store import DataSet, evenly_spread, to_floats
from s18_utils.errors import InputError


def numbers(batches) -> list[int]:
    """Which images the batches hold; `tensor_set` writes an image's number into its pixels."""
    return [int(image[0, 0, 0]) for batch in batches for image in batch["image"]]


def drawn(data: StoreData, epoch: int) -> list[int]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return numbers(loader)


def test_every_image_is_in_one_split():
    data = StoreData(tensor_set(train=50, test=7), batch_size=5)
    train, val, test = (
        numbers(loader()) for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader)
    )
    assert (len(train), len(val), len(test)) == (45, 5, 7)
    assert sorted(train + val) == list(range(50))
    assert test == list(range(7))
    assert val != sorted(val)  # drawn at random, not the first ones, which are of one breed


def test_image_and_mask_stay_together():
    data = StoreData(tensor_set(train=50), batch_size=8)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert torch.equal(batch["mask"], batch["image"][:, 0] % 3)


def test_the_validation_cut_does_not_depend_on_the_seed():
    cuts = [numbers(StoreData(tensor_set(60), 8, seed=seed).val_dataloader()) for seed in (0, 1, 2)]
    assert cuts[0] == cuts[1] == cuts[2]


def test_batches_have_the_asked_size():
    data = StoreData(tensor_set(train=50, test=7), batch_size=8)
    assert [len(batch["image"]) for batch in data.train_dataloader()] == [8] * 5  # 45 images, the rest waits
    assert [len(batch["image"]) for batch in data.test_dataloader()] == [7]
    assert [len(batch["image"]) for batch in StoreData(tensor_set(50), 64).train_dataloader()] == [45]  # never none


def test_the_order_depends_on_seed_and_epoch_alone():
    data = StoreData(tensor_set(100), 10, seed=3)
    orders = [drawn(data, epoch) for epoch in range(3)]
    assert orders == [drawn(StoreData(tensor_set(100), 10, seed=3), epoch) for epoch in range(3)]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert drawn(StoreData(tensor_set(100), 10, seed=4), 0) not in orders


def test_lightning_tells_the_sampler_the_epoch(monkeypatch):
    told = []
    monkeypatch.setattr(ShuffleByEpoch, "set_epoch", lambda self, epoch: told.append(epoch))
    train_nothing(StoreData(tensor_set(40), 8), epochs=3)
    assert told == [0, 1, 2]


def test_a_limit_takes_the_same_part_every_time():
    whole, part = StoreData(tensor_set(100, test=40), 10), StoreData(tensor_set(100, test=40), 10, limit=20)
    assert (len(part.train), len(part.val), len(part.test)) == (18, 2, 20)
    again = StoreData(tensor_set(100, test=40), 5, seed=9, limit=20)
    assert numbers(part.test_dataloader()) == numbers(again.test_dataloader())
    assert sorted(drawn(part, 0)) != list(range(18))
    assert set(part.train.rows.tolist()) == set(again.train.rows.tolist())
    assert len(StoreData(tensor_set(100), 10, limit=1000).train) == len(whole.train)


def test_scaling():
    batch = {
        "image": torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1),
        "mask": torch.tensor([0, 1, 2], dtype=torch.uint8),
    }
    floats = to_floats(batch)
    assert floats["image"].flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert floats["image"].dtype == torch.float32
    assert floats["mask"].dtype == torch.int64
    assert floats["mask"].tolist() == [0, 1, 2]


class Watcher(L.LightningModule):
    """Keeps the batches it is given, by stage."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": [], "val": [], "test": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch)
        return self.weight * 1

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch)

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0)


def train_nothing(data: StoreData, epochs: int = 1) -> Watcher:
    quiet = {f"enable_{name}": False for name in ("checkpointing", "progress_bar", "model_summary")}
    watcher = Watcher()
    trainer = L.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, num_sanity_val_steps=1, **quiet)
    trainer.fit(watcher, data)
    trainer.test(watcher, data, verbose=False)
    return watcher


def mark(images, masks, generator, size):
    """An augmentation that can be seen, and that draws."""
    shift = torch.rand(len(images), 1, 1, 1, generator=generator)
    return (images * 0 + 2 + shift)[..., :size, :size], (masks * 0 + 7)[..., :size, :size]


def test_only_training_batches_are_augmented():
    seen = train_nothing(StoreData(tensor_set(40, test=9), 8, augment=mark)).seen
    assert all(batch["image"].min() >= 2 and batch["mask"].eq(7).all() for batch in seen["train"])
    assert len(seen["val"]) == 2  # the check before training, and the epoch's
    for stage in ("val", "test"):
        for batch in seen[stage]:
            assert batch["image"].max() <= 1
            assert torch.equal(batch["mask"], (batch["image"][:, 0] * 255).round().long() % 3)


def test_augmentation_differs_by_batch_and_repeats_by_seed():
    def shifts(seed):
        return [batch["image"].flatten(1)[:, 0] for batch in runs[seed].seen["train"]]

    runs = {seed: train_nothing(StoreData(tensor_set(40), 8, seed=seed, augment=mark), epochs=2) for seed in (0, 1)}
    again = train_nothing(StoreData(tensor_set(40), 8, seed=0, augment=mark), epochs=2)
    first = shifts(0)
    assert len(first) == 8
    assert len({tuple(batch.tolist()) for batch in first}) == 8
    repeated = [batch["image"].flatten(1)[:, 0] for batch in again.seen["train"]]
    assert all(torch.equal(a, b) for a, b in zip(first, repeated, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, shifts(1), strict=True))


def test_without_augmentation_training_sees_the_pixels():
    seen = train_nothing(StoreData(tensor_set(40), 8)).seen["train"]
    pixels = torch.cat([batch["image"] for batch in seen]) * 255
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-4, rtol=0)
    assert seen[0]["image"].is_contiguous(memory_format=torch.channels_last)


def test_examples_are_spread_over_the_test_split():
    data = StoreData(tensor_set(20, test=21), 8)
    shown = (data.examples(5)["image"][:, 0, 0, 0] * 255).round().int().tolist()
    assert shown == [0, 5, 10, 15, 20]
    assert len(data.examples(50)["image"]) == 21
    assert evenly_spread(7, 1).tolist() == [0]


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("synthetic", "Synthetic data in place of Oxford-IIIT Pet, drawn by s18_utils: "),
        ("kaggle", "Oxford-IIIT Pet from kaggle: "),
    ],
)
def test_the_description_says_where_data_came_from(source, start):
    data = StoreData(tensor_set(50, test=7, source=source), 8)
    assert data.data.synthetic == (source == "synthetic")
    assert data.describe() == start + "45 training, 5 validation and 7 test images at 16 px."
    validated = StoreData(tensor_set(50, test=7, source=source), 8, scored_on="validation")
    assert "5 validation and no test images" in validated.describe()


def test_a_data_set_says_what_it_holds():
    pets = tensor_set(6, size=24)
    assert (pets.truth, pets.channels, pets.size) == ("mask", 3, 24)
    digits = {"image": torch.zeros(5, 1, 28, 28, dtype=torch.uint8), "label": torch.arange(5)}
    labelled = DataSet("mnist", "MNIST", "local", "0" * 16, tuple("0123456789"), 60_000, digits, digits)
    assert (labelled.truth, labelled.channels, labelled.size, labelled.synthetic) == ("label", 1, 28, False)
    assert StoreData(labelled, 2).examples(5)["label"].tolist() == [0, 1, 2, 3, 4]


def test_the_validation_cut_can_take_the_test_splits_place():
    data = StoreData(tensor_set(50, test=7), 8, scored_on="validation")
    assert numbers(data.test_dataloader()) == sorted(numbers(data.val_dataloader()))
    assert data.train.rows.tolist() == StoreData(tensor_set(50, test=7), 8).train.rows.tolist()
    with pytest.raises(InputError, match="unknown split to score on 'train': choose one of test, validation"):
        StoreData(tensor_set(50), 8, scored_on="train")


def test_the_first_epochs_ask_for_half_the_size():
    data = StoreData(tensor_set(40, size=32), 8, augment=mark, half_size_epochs=2)
    seen = train_nothing(data, epochs=3).seen
    assert [batch["image"].shape[-1] for batch in seen["train"]] == [16] * 8 + [32] * 4
    assert [batch["mask"].shape[-1] for batch in seen["train"]] == [16] * 8 + [32] * 4
    assert {batch["image"].shape[-1] for stage in ("val", "test") for batch in seen[stage]} == {32}
    few = StoreData(tensor_set(20, size=24), 8, augment=mark, half_size_epochs=1)  # a UNet takes no 12 pixels
    assert {batch["image"].shape[-1] for batch in train_nothing(few).seen["train"]} == {16}
    with pytest.raises(InputError, match="made by the augmentation: give one, or half_size_epochs=0"):
        StoreData(tensor_set(20), 8, half_size_epochs=1)


def test_one_row_and_many_rows():
    rows = Subset(tensor_set(10).train, torch.tensor([7, 3, 5]))
    assert len(rows) == 3
    assert rows[1]["image"][0, 0, 0] == 3
    assert rows.__getitems__([2, 0])["image"][:, 0, 0, 0].tolist() == [5, 7]
    assert rows.take(torch.tensor([2, 0]))["image"][:, 0, 0, 0].tolist() == [5, 7]


@pytest.mark.parametrize(("train", "test"), [(0, 3), (1, 3), (10, 0)])
def test_an_empty_split_is_refused(train, test):
    with pytest.raises(InputError, match="the split holds no images: use more data"):
        StoreData(tensor_set(train, test), 8)


def test_seeds_are_mixed_the_same_everywhere():
    # Fixed values: another process or machine must draw the same order.
    assert derive_seed(18, 3) == 4562221339077965903
    assert len({derive_seed(seed, epoch) for seed in range(50) for epoch in range(50)}) == 2500
    assert all(0 <= derive_seed(seed, 1) < 2**63 for seed in (-5, 0, 2**40))
