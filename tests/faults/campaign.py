"""Everything that can go wrong with files and processes, done on purpose: `python -m tests.faults.campaign`.

Prints a table of what was done, how often, and how it ended; ends with status 1 where a fault did harm. It needs Linux,
and root for the disk that fills. All that it writes lies in a temporary folder.
"""

import argparse
import contextlib
import gzip
import io
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import torch
from PIL import Image

from s18_utils import device, fitting, notebooks, publish, records
from s18_utils.data import sources
from s18_utils.data.dataset import open_data
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import Record, read_record
from s18_utils.report.readme import SECTIONS
from s18_utils.report.table import Table
from s18_utils.runs import start_folder, write_record
from s18_utils.training import train_or_load
from tests.conftest import random_pets, sample_history, sample_metrics, weights, without_seconds, write_pets
from tests.faults.doors import open_doors, read_whole

NAME = "unet-maxpool-transpose-bce"
SMALL = {"size": 32, "epochs": 4, "batch_size": 8, "limit": 24, "source": "synthetic", "width": 4}
PLAIN = (".json", ".csv")  # text for people, without checksums: another digit in it is another number
Outcome = Counter  # how often it ended in each way; ways that begin with HARM are harm
HARM = "harm: "
dice = random.Random(18)


# What the parts share.


def set_up(place: Path) -> None:
    """Keeps everything in one folder, on the CPU, away from the network and from the repository's own records."""
    for name in ("data", "home", "tmp", "cwd"):
        (place / name).mkdir()
    os.environ |= {"S18_DATA": str(place / "data"), "S18_RUNS": str(place / "runs"), "S18_PRESET": "tiny"}
    os.environ |= {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
    tempfile.tempdir = str(place / "tmp")
    os.chdir(place / "cwd")
    EXPERIMENTS[NAME].block.update(SMALL)
    records.PUBLISHED = sources.KAGGLE_INPUT = place / "none"
    sources.reachable = lambda url: False
    device.device = fitting.device = lambda: torch.device("cpu")
    torch.set_num_threads(1)


def start(work: Callable, log: Path) -> int:
    """Starts work in a forked child, which imports nothing anew; its status: 0 done, 2 one sentence, 1 a traceback."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(os.open(log.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        work()
        status = 0
    except InputError as error:
        log.write_text(str(error))
        status = 2 if "\n" not in str(error) and ": " in str(error) else 1
    except BaseException:
        log.write_text(traceback.format_exc())
    finally:
        os._exit(status)


def end(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(work: Callable, log: Path, kill_after: float | None = None) -> int:
    """Work in a child, killed after so many seconds; its status."""
    pid = start(work, log)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return end(pid)


def whole(work: Callable, log: Path) -> float:
    """Seconds that undisturbed work takes."""
    began = time.perf_counter()
    if run(work, log):
        raise RuntimeError(log.read_text())
    return time.perf_counter() - began


def same_record(first: Record, second: Record) -> bool:
    one, other = weights(first), weights(second)
    return (
        without_seconds(first.history) == without_seconds(second.history)
        and first.test == second.test
        and all(torch.equal(one[name], other[name]) for name in one)
    )


# Processes that are killed.


def kill_trainings(place: Path, count: int) -> Outcome:
    def train(out: Path) -> Callable:
        return lambda: train_or_load(NAME, out=out)

    log, outcome = place / "log", Outcome()
    seconds = whole(train(place / "whole"), log)
    expected = read_record(place / "whole" / NAME)
    for number in range(count):
        out = place / f"killed-{number}"
        run(train(out), log, dice.uniform(0, seconds))
        kept = sorted(out.glob(f".{NAME}.training/seed-0/epoch-*.ckpt"))
        rows = torch.load(kept[-1], weights_only=True)["callbacks"]["History"]["rows"] if kept else []
        if run(train(out), log):
            outcome[HARM + log.read_text()[-300:]] += 1
            continue
        record = read_record(out / NAME)
        lost = record.history[: len(rows)] != rows  # their seconds tell whether they were trained again
        left = {path.name for path in out.glob("[!.]*")} != {NAME} or len(list(out.glob(".[!r]*"))) > 0
        good = same_record(record, expected) and not lost and not left
        outcome["goes on, equal bit by bit" if good else f"{HARM}not equal, {lost=}, {left=}"] += 1
    return outcome


def kill_builders(place: Path, count: int) -> Outcome:
    pets, outcome, log = place / "data" / "oxford-iiit-pet", Outcome(), place / "log"
    write_pets(pets, *random_pets(300, 100, size=64))

    def build() -> None:
        open_data("pets", 32, "local")

    seconds = whole(build, log)
    expected = open_data("pets", 32, "local").fingerprint
    store = place / "data" / "s18-store" / "pets-real-32.safetensors"
    for number in range(count):
        if number % 2:
            store.unlink()
        else:  # a stale store is replaced
            os.utime(pets / "images" / "train_0.jpg", (number, number))
        run(build, log, dice.uniform(0, seconds))
        good = run(build, log) == 0 and open_data("pets", 32, "local").fingerprint == expected
        outcome["the set is whole" if good else HARM + "another set"] += 1
    shutil.rmtree(pets)
    return outcome


def numbered(folder: Path, number: int) -> None:
    """Writes a record all of which says one number."""
    data = {name: torch.full((4000, 50), float(number)) for name in "ab"}
    record = Record(
        folder, sample_metrics(epochs=number), sample_history(epochs=number), {"image": data["a"]}, {"number": number}
    )
    write_record(record, data, {})


def read_number(folder: Path) -> int:
    """The number of a record; an AssertionError if its parts are of several."""
    record = read_record(folder)
    found = {record.metrics["epochs"], len(record.history), int(record.stored_examples["image"].unique())}
    assert len(found) == 1, found
    return found.pop()


def write_on(folder: Path) -> None:
    for number in itertools.cycle(range(1, 200)):
        numbered(folder, number)


def kill_writers(place: Path, count: int) -> Outcome:
    outcome, folder = Outcome(), place / "records" / NAME
    numbered(folder, 1)
    for _ in range(count):
        run(lambda: write_on(folder), place / "log", dice.uniform(0.05, 0.5))
        read_number(folder)
        good = int(weights(read_record(folder))["a"].unique()) == read_record(folder).config["number"]
        outcome["the old record or the new one, whole" if good else HARM + "a mixture"] += 1
    return outcome


def kill_publishing(place: Path, count: int) -> Outcome:
    root, log, outcome = place / "repository", place / "log", Outcome()
    (root / "notebooks").mkdir(parents=True)
    marks = "<!-- results {}: written by python -m s18_utils readme -->\nold\n<!-- end of results -->\n"
    (root / "README.md").write_text("".join(marks.format(family) for family in SECTIONS))
    cells = [nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{EXPERIMENTS[NAME].notebook}.ipynb")
    publish.SEEDS = dict.fromkeys(publish.SEEDS, 1)

    def work(folder: Path) -> Callable:
        def call() -> None:
            notebooks.NOTEBOOKS, records.PUBLISHED = folder / "notebooks", folder / "figures"
            publish.publish("tiny", [NAME])

        return call

    shutil.copytree(root, place / "published")
    seconds = whole(work(place / "published"), log)
    expected = read_record(place / "published" / "figures" / NAME)
    for number in range(count):
        scratch = shutil.copytree(root, place / f"published-{number}")
        if number % 2:  # what is published is published anew
            shutil.copytree(place / "published" / "figures", scratch / "figures")
        run(work(scratch), log, dice.uniform(0, seconds))
        texts = {path.read_text() for path in (root / "README.md", place / "published" / "README.md")}
        broken = [] if (scratch / "README.md").read_text() in texts else ["README.md"]
        for file in (*scratch.rglob("*.png"), *scratch.rglob("*.ipynb")):
            try:
                if file.name[0] != ".":
                    Image.open(file).load() if file.suffix == ".png" else nbformat.read(file, 4)
            except Exception:
                broken.append(file.name)
        again = run(work(scratch), log)
        good = not broken and not again and same_record(read_record(scratch / "figures" / NAME), expected)
        outcome["every file whole, then published, equal" if good else f"{HARM}{broken} {log.read_text()[-300:]}"] += 1
    return outcome


# A disk that fills.


def fill_disks(place: Path, count: int) -> Outcome:
    outcome, log, disk = Outcome(), place / "log", place / "disk"

    def work() -> None:
        os.environ |= {"S18_DATA": str(disk / "data"), "TMPDIR": str(disk)}
        (disk / "data").mkdir(exist_ok=True)
        train_or_load(NAME, out=disk / "out")

    disk.mkdir()
    whole(work, log)
    expected = read_record(disk / "out" / NAME)
    expected = Record(shutil.copytree(expected.folder, place / "kept"), expected.metrics, expected.history)
    shutil.rmtree(disk)
    for size in np.linspace(0.05, 14, count):  # megabytes; all of it takes about 11
        disk.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={int(size * 1e6)}", "tmpfs", str(disk)]
        if subprocess.run(["mount", *options], capture_output=True).returncode:
            return Outcome({"not done: it needs root": count})
        try:
            status, text = run(work, log), log.read_text()
            subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
            good = status != 1 and not run(work, log) and same_record(read_record(disk / "out" / NAME), expected)
            way = "one sentence" if status else "fits"
            outcome[f"{way}; with more space equal bit by bit" if good else f"{HARM}{text[-300:]}"] += 1
        finally:
            subprocess.run(["umount", str(disk)], check=True)
            disk.rmdir()
    return outcome


# Bytes that are flipped.


def flip_bytes(place: Path, count: int) -> Outcome:
    """A bit of each kind of kept file, `count` times each; what is read then is as before, or there is a sentence."""
    outcome, out = Outcome(), place / "flipped"
    stop = place / "stop"

    def train() -> None:
        pid = start(lambda: train_or_load(NAME, out=out, retrain=True), place / "log")
        while len(list(out.glob(f".{NAME}.training/seed-0/epoch-*3.ckpt"))) < 1:
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        end(pid)

    whole(lambda: train_or_load(NAME, out=out), place / "log")
    shutil.copytree(out / NAME, stop / NAME)
    train()
    partial = out / f".{NAME}.training"
    seed = partial / "seed-0"
    result = fitting.SeedResult(
        0, {"loss": 0.5}, {}, sample_history(), {"w": torch.rand(9)}, False, {"s": torch.rand(9)}
    )
    fitting.write_result(seed / "result.json", result)
    checkpoints = sorted(seed.glob("epoch-*.ckpt"))
    config = json.loads((partial / "config.json").read_text())
    kinds: dict[Path, Callable] = {
        path: lambda: read_whole(stop / NAME)
        for path in sorted((stop / NAME).iterdir())
        if path.suffix != ".png" or path.name == "photographs.png"  # other pictures are only looked at
    }
    results = ("result.json", "result.safetensors", "snapshots.safetensors")
    kinds |= {seed / name: lambda: str(fitting.read_result(seed / "result.json")) for name in results}
    kinds[checkpoints[-1]] = lambda: fitting.find_fault(checkpoints[-1])
    kinds[seed / "best.ckpt"] = lambda: fitting.newest_checkpoint(seed)
    kinds[partial / "config.json"] = lambda: start_folder(partial, config)
    store = next((place / "data" / "s18-store").glob("pets-synthetic*"))
    kinds[store] = lambda: open_data("pets", 32, "synthetic").fingerprint
    for file, read in kinds.items():
        content = file.read_bytes()
        with contextlib.redirect_stdout(io.StringIO()):
            expected = read()
            for _ in range(count):
                position, bit = dice.randrange(len(content)), 1 << dice.randrange(8)
                file.write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
                try:
                    found = read()
                    if found == expected:
                        outcome["reads as before"] += 1
                    elif found is None or file == checkpoints[-1] or found == "None":
                        outcome["noticed, done again"] += 1
                    else:
                        way = "plain text says another thing" if file.suffix in PLAIN else f"{HARM}{file.name}"
                        outcome[way] += 1
                except InputError as error:
                    outcome["one sentence" if "\n" not in str(error) else HARM + str(error)] += 1
                except Exception:
                    outcome[f"{HARM}{file.name} {position}: {traceback.format_exc()[-300:]}"] += 1
                file.write_bytes(content)
    return outcome


# Files that are meant badly.


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def open_archives(place: Path, count: int) -> Outcome:
    """Sets of MNIST and CIFAR-10 cut short, empty, with names that climb out of their folder, with code in them."""
    outcome, data = Outcome(), place / "data"
    images, labels = np.zeros((3, 28, 28), np.uint8), np.arange(3, dtype=np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    good, climbing, coded = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez_compressed(good, **arrays)
    with zipfile.ZipFile(climbing, "w") as archive:
        for name in ("../../escaped.npy", "/escaped.npy", "x_train.npy"):
            archive.writestr(name, b"x")
    np.savez(coded, **arrays | {"x_train": np.array([Bomb(place / "ran")], dtype=object)})
    idx = b"\0\0\x08\x03" + np.array([3, 28, 28], ">u4").tobytes() + images.tobytes()
    raw = {name: gzip.compress(idx) for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz")}
    cuts = [good.getvalue()[: dice.randrange(len(good.getvalue()))] for _ in range(count)]
    cases = [{"mnist.npz": content} for content in (b"", climbing.getvalue(), coded.getvalue(), *cuts)]
    cases += [{f"MNIST/raw/{name}": content[: dice.randrange(len(content))] for name, content in raw.items()}] * count
    cases += [{"cifar10.npz": content} for content in (b"", climbing.getvalue(), coded.getvalue(), *cuts)]
    cases += [{f"cifar-10-batches-py/data_batch_{n}": pickle.dumps(Bomb(place / "ran")) for n in range(1, 6)}]
    cases += [{"cifar-10-parquet/train-00000-of-00001.parquet": content} for content in (b"", b"PAR1", b"PAR1" * 9)]
    for case in cases:
        for name, content in case.items():
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_bytes(content)
        try:
            open_data("cifar10" if "cifar" in name else "mnist", source="local")
            outcome[HARM + "read"] += 1
        except InputError:
            outcome["one sentence"] += 1
        for name in case:
            (data / name).unlink()
    harm = [path for path in place.rglob("*") if path.name in ("ran", "escaped.npy")]
    return outcome + Outcome({f"{HARM}{path}": 1 for path in harm})


def load_code(place: Path, count: int) -> Outcome:
    """Checkpoints and weights that carry code: refused, and not run."""
    outcome, out, marker = Outcome(), place / "coded", place / "ran"
    seed = out / f".{NAME}.training" / "seed-0"
    bomb = {"state_dict": Bomb(marker)}
    for name in ("epoch-0001.ckpt", "best.ckpt"):
        seed.mkdir(parents=True)
        torch.save(bomb, seed / name)
        status = run(lambda: train_or_load(NAME, out=out), place / "log")
        way = {0: "passed over, trained without it", 2: "one sentence"}.get(status, HARM + "traceback")
        outcome[HARM + "run" if marker.exists() else way] += 1
        shutil.rmtree(out)
    numbered(out / NAME, 1)
    torch.save(bomb, out / NAME / "weights.safetensors")
    try:
        read_record(out / NAME).model()
    except InputError:
        outcome[HARM + "run" if marker.exists() else "one sentence"] += 1
    return outcome


# Processes that meet.


def meet(place: Path, count: int) -> Outcome:
    """Two builders of a store, two trainers of a record, and a reader while a writer works."""
    outcome, log = Outcome(), place / "log"
    for number in range(count):
        data = place / f"shared-{number}"
        data.mkdir()

        def build(data: Path = data) -> None:
            os.environ["S18_DATA"] = str(data)
            open_data("pets", 32, "synthetic")

        pids = [start(build, log) for _ in range(2)]
        good = [end(pid) for pid in pids] == [0, 0] and len(list((data / "s18-store").iterdir())) == 1
        outcome["two builders: one store" if good else HARM + "builders"] += 1
        out = place / f"both-{number}"
        pids = [start(lambda out=out: train_or_load(NAME, out=out), place / f"log-{each}") for each in range(2)]
        good = sorted(end(pid) for pid in pids) in ([0, 2], [0, 0]) and read_record(out / NAME).metrics["epochs"] == 4
        outcome["two trainers: one record, the second is told who is at it" if good else HARM + "trainers"] += 1
    folder = place / "read" / NAME
    numbered(folder, 1)
    pid = start(lambda: write_on(folder), log)
    try:
        for _ in range(20 * count):
            read_number(folder)
            outcome["reads while a writer works: one record, whole"] += 1
    finally:
        os.kill(pid, signal.SIGKILL)
        end(pid)
    return outcome


def knock_at_doors(place: Path, count: int) -> Outcome:
    whole(lambda: train_or_load(NAME), place / "log")
    return open_doors(place, count)


PARTS: dict[str, tuple[Callable[[Path, int], Outcome], int]] = {
    "kill -9 of a training": (kill_trainings, 20),
    "kill -9 of a builder of a store": (kill_builders, 20),
    "kill -9 of a writer of records": (kill_writers, 20),
    "kill -9 of publish": (kill_publishing, 20),
    "disk that fills": (fill_disks, 20),
    "bit flipped in each kind of file": (flip_bytes, 50),
    "damaged and hostile archives": (open_archives, 20),
    "checkpoints that carry code": (load_code, 1),
    "processes that meet": (meet, 5),
    "generated inputs": (knock_at_doors, 150),
}


def run_part(part: Callable[[Path, int], Outcome], count: int) -> Outcome:
    """A part in a process and a folder of its own; what it left elsewhere is harm."""
    with tempfile.TemporaryDirectory() as folder:
        place, result = Path(folder, "place"), Path(folder, "result.json")
        place.mkdir()

        def work() -> None:
            set_up(place)
            outcome = part(place, count)
            strays = [path for name in ("home", "cwd") for path in (place / name).glob("[!.]*")]
            result.write_text(json.dumps(outcome | {f"{HARM}left {path.name}": 1 for path in strays}))

        if run(work, Path(folder, "log")):
            return Outcome({HARM + Path(folder, "log").read_text()[-800:]: 1})
        return Outcome(json.loads(result.read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], help="the parts whose names hold one of these")
    parser.add_argument("--count", type=int, help="how often, instead of each part's own number")
    arguments = parser.parse_args()
    rows = []
    for name, (part, often) in PARTS.items():
        if any(part_of in name for part_of in arguments.only):
            ends = sorted(run_part(part, arguments.count or often).items())
            rows += [["" if row else name, str(number), way] for row, (way, number) in enumerate(ends)]
    print(Table(["fault", "times", "how it ended"], rows).markdown())
    print(f"\nOn {device.describe_device()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}.")
    return int(any(way.startswith(HARM) for _, _, way in rows))


if __name__ == "__main__":
    sys.exit(main())
