"""The folder of a run: its name, whether the record in it answers, who is training in it, and writing its record."""

import contextlib
import csv
import ctypes
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from PIL import Image
from safetensors import SafetensorError

from s18_utils import records
from s18_utils.data.store import save_tensors
from s18_utils.errors import InputError, make_folder, remove_leftovers, replacing
from s18_utils.experiments import NETWORKS, Experiment
from s18_utils.records import Record
from s18_utils.settings import DataSettings, describe_changes, flatten

RESULT = "result.json"  # of a seed that is through, in its folder of a running training
REMEDY = "choose another folder with out=, --out or S18_RUNS"


def normalise_changes(settings: DataSettings, block: DataSettings, changes: Iterable[str]) -> dict[str, Any]:
    """The changed settings that differ from the block's, with their values as JSON has them: `"0"` and 0 are alike."""
    now, before = (flatten(each.model_dump(mode="json")) for each in (settings, block))
    return {name: now[name] for name in changes if now[name] != before[name]}


def network_variants(
    spec: Experiment, changes: dict[str, Any], name: str | None
) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """The networks that a variant of an experiment needs, as variants of their own.

    Yields:
        The role of each, the changes that concern it, its own and other data, and what it is called: by what differs,
        so that other variants find it; where that makes no folder's name as its conditional VAE is.
    """
    if spec.family == "cvae":
        for role in NETWORKS:
            own = {key.removeprefix(f"{role}."): value for key, value in changes.items() if key.startswith(f"{role}.")}
            own |= {key: value for key, value in changes.items() if key in ("data", "size")}
            yield role, own, name if own and not is_file_name(describe_changes(own)) else None


def is_file_name(text: str) -> bool:
    """Whether a file can be called so on every system, with some room for what stands before and after, and a figure:
    there, what two dollar signs enclose is mathematics."""
    plain = text == text.strip() != "" and text.isprintable() and not set(text) & set('/\\:*?"<>|$')
    return plain and len(os.fsencode(text)) <= 100


def folder_name(spec: Experiment, changes: dict[str, Any], name: str | None) -> str:
    """What the folder of an experiment or its variant is called; an InputError if `name` is no file name."""
    text = describe_changes(changes) if name is None else name
    if name is None and not changes:
        return spec.name
    if not is_file_name(text):
        if name is None:
            raise InputError(f"{text[:60]!r}… can't be a folder's name: give the variant one with name= or --name")
        raise InputError(f"{text!r} can't be a folder's name: use letters, digits, spaces and .,=-_ alone")
    return f"{spec.name}+{text}"


def answers(kept: Record, config: dict, folder: Path, synthetic: bool) -> bool:
    """Whether a record is what a run with `config` would make, so that it can be loaded instead.

    A record trained on other real data serves as well where only synthetic data can be had, or where it is one of the
    repository's own: for a reader who has another copy of the set. A record of synthetic data gives way to real data.

    Args:
        kept: the record.
        config: of the run that is asked for.
        folder: where that run would write its record.
        synthetic: whether its data are.

    Raises:
        InputError: a record of other settings or other real data is in the way, so that training would replace it.
    """
    other = differing_settings(kept.config.get("settings", {}), config["settings"])
    if config["family"] == "classifier":  # what its record is called, its conditional VAE says
        command = f"python -m s18_utils fit {config['experiment']} --retrain"
        remedy = f"replace that one with `{command}`, of the same preset, settings and folder"
    else:
        remedy = "give this one a name of its own, or replace that one with retrain"
    if other and kept.folder == folder:
        what = ", ".join(f"{name}={before!r} instead of {after!r}" for name, before, after in other[:3])
        raise InputError(f"{folder} holds a record of other settings ({what}): {remedy}")
    if other or kept.metrics["interrupted"] or len(kept.metrics["seeds"]) < config["seeds"]:
        return False
    same = kept.data["fingerprint"] == config["fingerprint"]
    invented = kept.synthetic or config["settings"]["source"] == "synthetic"
    if not same and (invented or not (synthetic or kept.published)):
        if kept.folder == folder and not kept.synthetic:
            raise InputError(f"{folder} holds a record of other data, from {kept.data['source']}: {remedy}")
        return False
    return True


def has_scores(record: Record | None, settings: DataSettings, seeds: int) -> bool:
    """Whether a published record has the scores of these settings, of so many seeds: enough where it is only tabled.

    Git leaves out the weights of such records.
    """
    if record is None or not record.published or len(record.metrics["seeds"]) < seeds:
        return False
    return not differing_settings(record.config.get("settings", {}), settings.model_dump(mode="json"))


def differing_settings(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The settings, as JSON has them, that differ: name, and the value before and after."""
    before, after = flatten(before), flatten(after)
    names = (before.keys() | after.keys()) - {"source"}  # the same bytes by another way are the same data
    values = [(name, before.get(name), after.get(name)) for name in sorted(names)]
    return [(name, old, new) for name, old, new in values if old != new]


def start_folder(partial: Path, config: dict) -> None:
    """Makes the folder of a running training, or checks that the one to go on from was begun with `config`."""
    started = partial / "config.json"
    if started.is_file():
        before = records.read_json(started)
        other = [name for name, *_ in differing_settings(before.get("settings", {}), config["settings"])]
        other += ["data"] if before.get("fingerprint") != config["fingerprint"] else []
        if other:
            raise InputError(
                f"the training begun in {partial} had another {', '.join(other)}: go on with it as it was begun, or "
                "delete that folder to start over"
            )
    make_folder(partial, REMEDY)
    records.write_json(started, config)


@contextlib.contextmanager
def locked(partial: Path) -> Iterator[None]:
    """Holds the folder of a training for this run; the lock dies with the process.

    Raises:
        InputError: another process holds it; the sentence says which.
    """
    make_folder(partial, REMEDY)
    holder, lock = partial / "holder.txt", FileLock(partial / "lock")
    if not is_first_process():  # the first process holds it for all of them
        yield
        return
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
        raise InputError(f"{who} is training in {partial}: wait for it, or choose another folder") from error
    except (NotImplementedError, OSError):  # a mounted drive that knows no locks
        yield
        return
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        lock.release()


def discard_folder(partial: Path) -> None:
    """Removes what a training left in its folder, and the folder."""
    shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def working_folder(partial: Path, config: dict, retrain: bool) -> Iterator[None]:
    """Holds the folder of a training for this run, begun with `config`, or with `retrain` anew.

    It is left for the next try, unless nothing in it is worth going on from.
    """
    existed = partial.is_dir()
    with locked(partial):
        try:
            if retrain and is_first_process():
                for path in partial.glob("seed-*"):
                    discard_folder(path)
                (partial / "config.json").unlink(missing_ok=True)
            if is_first_process():  # the others would read what it is writing
                start_folder(partial, config)
            yield
        except FloatingPointError:  # it would happen again, and to this seed alone
            for path in partial.glob("seed-*"):
                if not (path / RESULT).is_file():
                    discard_folder(path)
            if not any(partial.glob("seed-*")):
                discard_folder(partial)
            raise
        except (InputError, KeyboardInterrupt):
            if not existed and not any(partial.rglob("*.ckpt")):
                discard_folder(partial)
            raise


def is_first_process() -> bool:
    """Whether this process is the one that writes; true where there is no other."""
    return rank_zero_only.rank == 0


def write_record(record: Record, weights: dict[str, torch.Tensor], figures: dict[str, Figure]) -> Record:
    """Writes a whole record in place of the one in its folder, which stands until the new one is whole.

    Args:
        record: the metrics, history and config, and the folder to write them to.
        weights: the state dict of the first seed's model; may be empty.
        figures: pictures by name.

    Raises:
        InputError: the folder can't be written to, or holds something else than a record.
    """
    folder = record.folder
    check_replaceable(folder)
    parent = make_folder(folder.parent, REMEDY)
    remove_leftovers(parent, ".record-*")
    partial = Path(tempfile.mkdtemp(prefix=".record-", dir=parent))
    try:
        records.write_json(partial / "metrics.json", record.metrics)
        records.write_json(partial / "config.json", record.config)
        names = list(dict.fromkeys(name for row in record.history for name in row))
        with open(partial / "history.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(record.history)
        examples = dict(record.stored_examples)
        if "mask" in examples:  # photographs are others' works, and are kept as a picture to look at
            write_photographs(examples.pop("image"), partial / "photographs.png")
        for name, tensors in {"weights": weights, "examples": examples}.items():
            if tensors:
                file = partial / f"{name}.safetensors"
                save_tensors(tensors, file)
                file.chmod(0o644)  # safetensors writes private files
        save_figures(partial, figures)
        partial.chmod(0o755)  # temporary folders are private
        replace_folder(partial, folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"can't write {folder} ({error}): {REMEDY}, or free some space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def write_photographs(images: torch.Tensor, file: Path) -> None:
    """Writes images, uint8 (N, 1 or 3, S, S), as a picture of one row."""
    row = torch.cat(list(images.expand(-1, 3, -1, -1)), dim=2).permute(1, 2, 0)
    Image.fromarray(row.numpy()).save(file, optimize=True)


def check_replaceable(folder: Path) -> None:
    """Raises an InputError unless a record can be put at `folder` without taking anything else away."""
    if folder.is_dir() and (folder / "metrics.json").is_file() and (folder / "config.json").is_file():
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there and is no record of this package: move it away, or {REMEDY}")


def replace_folder(new: Path, folder: Path) -> None:
    """Moves `new` to `folder`, in one step where the system can exchange two folders.

    Elsewhere what was there is moved aside first, and back if that fails: never is it half gone.
    """
    if folder.exists() and exchange_folders(new, folder):
        shutil.rmtree(new, ignore_errors=True)
        return
    aside = new.with_name(f"{new.name}-replaced")
    if folder.exists():
        folder.rename(aside)
    try:
        new.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def exchange_folders(first: Path, second: Path) -> bool:
    """Swaps two folders in one step, which Linux can on most disks; returns whether it was done."""
    try:
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return ctypes.CDLL(None).renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0
    except (OSError, AttributeError, TypeError):  # another system
        return False


def save_figures(folder: Path, figures: dict[str, Figure]) -> None:
    """Writes figures as `<name>.png` into a folder, each in one step."""
    for name, figure in figures.items():
        with replacing(folder / f"{name}.png") as partial:
            figure.savefig(partial, format="png")
