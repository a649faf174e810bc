"""The store: built once, and again whenever it is missing, stale or damaged; never half there."""

import os
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import listing, names, refused
from safetensors.torch import save_file

from s18_utils.data import dataset, pets
from s18_utils.data.dataset import open_data
from s18_utils.data.store import fingerprint, open_store, read_store, stamp_files

TENSORS = {
    "train.image": torch.arange(2 * 3 * 8 * 8).remainder(251).to(torch.uint8).view(2, 3, 8, 8),
    "train.mask": torch.arange(2 * 8 * 8).remainder(3).to(torch.uint8).view(2, 8, 8),
}


class Build:
    """Makes the tensors and counts how often it was asked to."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {name: tensor.clone() for name, tensor in TENSORS.items()}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "store" / "set.safetensors"


@pytest.fixture
def built(path) -> tuple[Path, Build]:
    build = Build()
    open_store(path, "stamp", build)
    assert build.calls == 1
    return path, build


def same(tensors: dict) -> bool:
    return tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_a_good_store_is_not_built_again(built):
    path, build = built
    before = path.stat()
    for _ in range(3):
        tensors, mark = open_store(path, "stamp", build)
        assert same(tensors)
        assert mark == fingerprint(TENSORS)
    assert build.calls == 1
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert list(listing(path.parent)) == [path.name]
    assert before.st_mode & 0o444 == 0o444  # others may read it too


def test_every_single_flip_is_noticed(built):
    path, _ = built
    whole = path.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 0b100
        path.write_bytes(content)
        stored = read_store(path, "stamp")
        assert stored is None, f"byte {position}, {whole[max(0, position - 8) : position + 8]}"
    assert same(open_store(path, "stamp", Build())[0])
    assert read_store(path, "stamp") is not None  # mended


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99, None])
def test_a_truncated_store_or_something_else_under_its_name_is_built_again(built, share):
    path, build = built
    content = path.read_bytes()
    path.write_bytes(b"not a store at all" if share is None else content[: int(len(content) * share)])
    assert same(open_store(path, "stamp", build)[0])
    assert build.calls == 2
    save_file(TENSORS, path)  # without a stamp
    assert read_store(path, "stamp") is None


def test_another_stamp_means_stale(built):
    path, build = built
    open_store(path, "other", build)
    assert build.calls == 2
    assert read_store(path, "stamp") is None
    assert read_store(path, "other") is not None


def test_the_fingerprint_tells_names_shapes_types_and_contents_apart():
    base = fingerprint(TENSORS)
    assert len(base) == 16
    changed = TENSORS["train.mask"].clone()
    changed[1, 7, 7] = 2 - changed[1, 7, 7] + 1
    variants = [
        {**TENSORS, "train.mask": changed},
        {"train.image": TENSORS["train.image"], "test.mask": TENSORS["train.mask"]},
        {**TENSORS, "train.mask": TENSORS["train.mask"].view(2, 4, 16)},
        {**TENSORS, "train.mask": TENSORS["train.mask"].view(torch.int8)},
    ]
    assert len({base, *map(fingerprint, variants)}) == 5
    assert fingerprint(dict(reversed(TENSORS.items()))) == base  # the order does not matter


def test_the_stamp_changes_with_the_files(tmp_path):
    # A class is a folder's name: a file that moves from one to another has changed.
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    image = tmp_path / "cat" / "1.png"
    image.write_bytes(b"1234")
    before = stamp_files([image])
    assert stamp_files([image.rename(tmp_path / "dog" / "1.png")]) != before

    files = [tmp_path / name for name in ("a.jpg", "b.jpg")]
    for file in files:
        file.write_bytes(b"1234")
    stamps = [stamp_files(files, size=32)]
    assert stamp_files(files[::-1], size=32) == stamps[0]
    stamps += [stamp_files(files, size=33), stamp_files(files[:1], size=32)]
    files[1].write_bytes(b"12345")
    stamps.append(stamp_files(files, size=32))
    files[1] = files[1].rename(tmp_path / "c.jpg")
    stamps.append(stamp_files(files, size=32))
    assert len(set(stamps)) == 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_tensors_are_mapped_not_copied(built):
    path, build = built
    tensors, _ = open_store(path, "stamp", build)
    address = tensors["train.image"].data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            assert line.endswith(str(path))
            return
    pytest.fail("the tensor's memory is not mapped")


def test_open_data_reads_the_files_once(pets_folder, monkeypatch):
    calls, read = [], pets.read
    monkeypatch.setattr(pets, "read", lambda root, size: calls.append(size) or read(root, size))
    first = open_data("pets", 16)
    assert open_data("pets", 16).fingerprint == first.fingerprint
    assert calls == [16]
    open_data("pets", 24)  # another size has a store of its own
    open_data("pets", 16)
    assert calls == [16, 24]
    assert len(list((pets_folder.parent / "s18-store").iterdir())) == 2
    monkeypatch.setattr(dataset, "READING", dataset.READING + 1)  # files are read in another way now
    open_data("pets", 16)
    assert calls == [16, 24, 16]


@pytest.mark.parametrize("edit", ["touch", "rewrite", "relist", "flip"])
def test_open_data_notices_what_changed(pets_folder, monkeypatch, edit):
    calls, read = [], pets.read
    monkeypatch.setattr(pets, "read", lambda root, size: calls.append(size) or read(root, size))
    before = open_data("pets", 16)
    image = pets_folder / "images" / "train_1.jpg"
    listed = pets_folder / "annotations" / "trainval.txt"
    if edit == "touch":
        image.touch()
    elif edit == "rewrite":
        image.write_bytes((pets_folder / "images" / "train_0.jpg").read_bytes())
    elif edit == "relist":
        listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:-1]))
    else:
        store = next((pets_folder.parent / "s18-store").iterdir())
        content = bytearray(store.read_bytes())
        content[-100] ^= 255
        store.write_bytes(content)
    after = open_data("pets", 16)
    assert len(calls) == 2
    assert len(after.train["image"]) == (3 if edit == "relist" else 4)
    assert (after.fingerprint == before.fingerprint) == (edit in ("touch", "flip"))


def test_a_store_that_another_builds_meanwhile_is_whole_for_both(path, monkeypatch):
    ends, build = [], Build()

    def write(*arguments):
        monkeypatch.setattr("s18_utils.data.store.save_file", save_file)
        save_file(*arguments)
        ends.append(open_store(path, "stamp", build))  # the other one's, from beginning to end

    monkeypatch.setattr("s18_utils.data.store.save_file", write)
    ends.append(open_store(path, "stamp", build))
    assert build.calls == 2
    assert all(same(tensors) and mark == fingerprint(TENSORS) for tensors, mark in ends)
    assert names(path.parent) == [path.name]


def test_a_folder_that_cannot_be_made_is_reported_before_anything_is_built(tmp_path):
    (tmp_path / "file").write_text("in the way")
    build, before = Build(), listing(tmp_path)
    with refused("can't write to", str(tmp_path / "file"), "set S18_DATA"):
        open_store(tmp_path / "file" / "store" / "set.safetensors", "stamp", build)
    assert build.calls == 0
    assert listing(tmp_path) == before


def test_a_full_disk_leaves_nothing_behind(path, monkeypatch):
    def full(tensors, file, metadata):
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s18_utils.data.store.save_file", full)
    with refused("No space left on device", "free some space"):
        open_store(path, "stamp", Build())
    with pytest.raises(KeyboardInterrupt):  # nor does a build that breaks off
        open_store(path, "stamp", raise_interrupt)
    assert list(path.parent.iterdir()) == []


def raise_interrupt():
    raise KeyboardInterrupt


def test_what_a_killed_builder_left_is_removed_after_a_day(path):
    path.parent.mkdir()
    old, new, other = (path.with_name(f".{stem}-{n}.partial") for n, stem in enumerate(["set", "set", "another"]))
    for partial in (old, new, other):
        partial.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    os.utime(other, (time.time() - 90_000,) * 2)
    open_store(path, "stamp", Build())
    assert set(listing(path.parent)) == {path.name, new.name, other.name}


def test_a_store_that_was_replaced_while_it_is_used_stays_readable(built):
    path, build = built
    tensors, _ = open_store(path, "stamp", build)
    open_store(path, "newer", lambda: {name: 255 - tensor for name, tensor in TENSORS.items()})
    assert same(tensors)
