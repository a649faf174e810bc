"""The folder of a run: what it is called, whether the record in it answers, and who is training in it."""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from s18_utils import records
from s18_utils.errors import InputError, make_folder
from s18_utils.experiments import NETWORKS, Experiment
from s18_utils.records import Record
from s18_utils.report.progress import display_message
from s18_utils.settings import DataSettings, describe_changes


def normalise_changes(settings: DataSettings, block: DataSettings, changes: Iterable[str]) -> dict[str, Any]:
    """The changed settings that differ from the block's, with their values as JSON has them: `"0"` and 0 are alike."""
    now, before = (flatten(each.model_dump(mode="json")) for each in (settings, block))
    return {name: now[name] for name in changes if now[name] != before[name]}


def network_changes(spec: Experiment, changes: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each network that the experiment needs, its role and the changes that concern it: its own, and other data."""
    if spec.family == "cvae":
        for role in NETWORKS:
            own = {
                name.removeprefix(f"{role}."): value for name, value in changes.items() if name.startswith(f"{role}.")
            }
            yield role, own | {name: value for name, value in changes.items() if name in ("data", "size")}


def folder_name(spec: Experiment, changes: dict[str, Any], name: str | None) -> str:
    """What the folder of an experiment or its variant is called; an InputError if `name` is no file name."""
    text = describe_changes(changes) if name is None else name
    if name is None and not changes:
        return spec.name
    plain = text == text.strip() != "" and text.isprintable() and not set(text) & set('/\\:*?"<>|')
    if not plain or len(os.fsencode(text)) > 100:
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
        InputError: a record of other settings is in the way, so that training would replace it.
    """
    before, after = flatten(kept.config.get("settings", {})), flatten(config["settings"])
    other = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    other = [name for name in other if name != "source"]  # the same bytes by another way are the same data
    if other and kept.folder == folder:
        what = ", ".join(f"{name}={before.get(name)!r} instead of {after.get(name)!r}" for name in other[:3])
        raise InputError(
            f"{folder} holds a record of other settings ({what}): give this one a name of its own, or replace that one "
            "with retrain"
        )
    if other or kept.metrics["interrupted"] or len(kept.metrics["seeds"]) < config["seeds"]:
        return False
    same = kept.data["fingerprint"] == config["fingerprint"]
    invented = kept.synthetic or config["settings"]["source"] == "synthetic"
    if not same and (invented or not (synthetic or kept.published)):
        return False
    try:
        kept.fetch_weights()
        return True
    except InputError as error:
        if kept.released:
            display_message(str(error), warning=True)
        return False


def flatten(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by dotted names, as they are given on the command line."""
    flat = {}
    for name, value in values.items():
        inner = isinstance(value, dict) and not name.endswith("net_settings")
        flat |= flatten(value, f"{before}{name}.") if inner else {f"{before}{name}": value}
    return flat


def start_folder(partial: Path, config: dict) -> None:
    """Makes the folder of a running training, or checks that the one to go on from was begun with `config`."""
    started = partial / "config.json"
    if started.is_file():
        before = records.read_json(started)
        now, then = flatten(config["settings"]), flatten(before.get("settings", {}))
        other = [name for name in now if name != "source" and then.get(name) != now[name]]
        other += ["data"] if before.get("fingerprint") != config["fingerprint"] else []
        if other:
            raise InputError(
                f"the training begun in {partial} had another {', '.join(other)}: go on with it as it was begun, or "
                "start over with retrain"
            )
    make_folder(partial, records.REMEDY)
    records.write_json(started, config)


@contextlib.contextmanager
def locked(partial: Path) -> Iterator[None]:
    """Holds the folder of a training for this run; the lock dies with the process.

    Raises:
        InputError: another process holds it; the sentence says which.
    """
    make_folder(partial, records.REMEDY)
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
        except FloatingPointError:  # it would happen again
            discard_folder(partial)
            raise
        except (InputError, KeyboardInterrupt):
            if not existed and not any(partial.rglob("*.ckpt")):
                discard_folder(partial)
            raise


def is_first_process() -> bool:
    """Whether this process is the one that writes; true where there is no other."""
    return rank_zero_only.rank == 0
