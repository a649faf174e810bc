"""Watching swaps while a conditional VAE trains."""

import torch
from cvae_stand_ins import SMALL, BandJudge, band_set

from s18_utils.ablation import agreement_in_training
from s18_utils.cvae import CVAEModule
from s18_utils.cvae.swap import SwapScores
from s18_utils.data.batches import StoreData


def watch(steps: int = 9, looks: int = 3, **settings) -> tuple[CVAEModule, list[dict]]:
    torch.manual_seed(0)
    module = CVAEModule(**SMALL, **settings)
    module.scores = SwapScores(BandJudge(), module.frozen)
    return module, agreement_in_training(module, StoreData(band_set(), 16), steps, looks)


def test_it_looks_evenly_and_at_the_end():
    assert [row["step"] for row in watch(steps=9, looks=3)[1]] == [3, 6, 9]
    assert [row["step"] for row in watch(steps=10, looks=4)[1]] == [3, 5, 8, 10]


def test_fewer_steps_than_looks_gives_a_look_a_step():
    assert [row["step"] for row in watch(steps=2, looks=8)[1]] == [1, 2]


def test_shares_are_shares_and_both_readers_are_asked():
    for row in watch()[1]:
        assert row.keys() == {"step", "judge", "frozen"}
        assert 0 <= row["judge"] <= 1
        assert 0 <= row["frozen"] <= 1


def test_it_repeats_itself_to_the_last_digit():
    assert watch()[1] == watch()[1]


def test_it_trains_the_model_and_not_the_frozen_network():
    torch.manual_seed(0)
    fresh = CVAEModule(**SMALL)
    trained, _ = watch()
    assert not torch.equal(fresh.vae.decoder.draw.weight, trained.vae.decoder.draw.weight)
    for (name, before), after in zip(
        fresh.frozen.state_dict().items(), trained.frozen.state_dict().values(), strict=True
    ):
        assert torch.equal(before, after), name
