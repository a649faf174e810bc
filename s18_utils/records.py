"""What a run leaves behind, and reading it back.

A record is a folder `<out>/<experiment>/`, or for a variant `<out>/<experiment>+<what differs>/`: `metrics.json` (what,
on what, how good), `history.csv` (a row per seed and epoch), `config.json` (all settings), `weights.safetensors` (the
first seed's model, no pickles), the PNGs drawn from them, and `examples.safetensors`: what figures show without the
data at hand, of a UNet with a dozen test images in `photographs.png`.
"""

import csv
import functools
import hashlib
import inspect
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import lightning as L
import numpy as np
import torch
from safetensors import SafetensorError

from s18_utils.cvae.classifier_module import ClassifierModule
from s18_utils.cvae.module import CVAEModule
from s18_utils.data.pictures import read_picture
from s18_utils.data.sources import reachable
from s18_utils.data.store import Batch, evenly_spread, load_tensors, to_floats
from s18_utils.device import device
from s18_utils.errors import InputError, check_choice, local_path, make_folder, write_text
from s18_utils.experiments import EXPERIMENTS, PRESETS, get_experiment
from s18_utils.report.progress import display_message
from s18_utils.settings import DataSettings, describe_changes, parse_settings
from s18_utils.unet.module import UNetModule

REPOSITORY = "https://github.com/Delve-ERAV1/S18"
HERE = Path(__file__).resolve().parent
# The records of the repository itself: inside an installed copy, beside the package in a checkout.
PUBLISHED = HERE / "figures" if (HERE / "figures").is_dir() else HERE.parent / "figures"
RELEASED = PUBLISHED.parent / "build" / "release"  # what is to be attached to a release
MODULES: dict[str, type[L.LightningModule]] = {
    "unet": UNetModule,
    "cvae": CVAEModule,
    "classifier": ClassifierModule,
}
# Where weights too large for the repository are attached, each under the name that its record's `weights.json` gives.
RELEASE = f"{REPOSITORY}/releases/latest/download"
# What a record has to say for the package to use it, and of which kind that is.
METRICS = dict.fromkeys(("experiment", "preset", "device", "precision", "commit"), str)
METRICS |= dict.fromkeys(("data", "versions", "test", "spread"), dict) | dict.fromkeys(("epochs", "parameters"), int)
METRICS |= {"interrupted": bool, "seconds": (int, float), "seeds": list}
DATA = dict.fromkeys(("name", "title", "source", "fingerprint"), str) | {"classes": list}
DATA |= dict.fromkeys(("channels", "size", "train", "val", "test"), int)
CONFIG = {"family": str, "settings": dict, "changes": dict, "networks": dict}


class Content(dict):
    """An object in a record's file; asking for what it lacks is an InputError that names the file."""

    def __init__(self, values: Mapping, file: Path):
        super().__init__(values)
        self.file = file

    def __missing__(self, name: str) -> None:
        raise InputError(f"{self.file} lacks {name}: delete {self.file.parent} and train again")


def build_module(family: str, settings: DataSettings, data: dict) -> L.LightningModule:
    """A new, untrained Lightning module.

    Args:
        family: a key of `MODULES`.
        settings: of that family; each argument of the module that is a setting has the setting's name.
        data: `classes`, `channels` and `size` of the images.

    Raises:
        InputError: settings of which no network can be built.
    """
    values = dict(settings) | {name: data[name] for name in ("classes", "channels", "size")}
    module = MODULES[family]
    try:
        return module(**{name: values[name] for name in inspect.signature(module).parameters})
    except (TypeError, RuntimeError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no network can be built from these settings ({reason}): change them") from error


@dataclass(frozen=True)
class Record:
    """One run: `metrics` as in `metrics.json`, `history` as a list of rows, and the folder they are in.

    `stored_examples` are some of its test images, uint8, with their labels or masks, and what its pictures need beside;
    `config` is what `config.json` holds: all `settings`, `changes` (those that differ from the experiment's block),
    `name`, `networks`.
    """

    folder: Path
    metrics: dict
    history: list[dict]
    stored_examples: Batch = field(default_factory=dict)
    config: dict = field(default_factory=dict)

    @cached_property
    def settings(self) -> DataSettings:
        """What it was made with; an InputError names what an older version did not write."""
        return parse_settings(self.family, self.config.get("settings", {}), f"the settings in {self.folder}")

    @property
    def experiment(self) -> str:
        return self.metrics["experiment"]

    @property
    def preset(self) -> str:
        return self.metrics["preset"]

    @property
    def family(self) -> str:
        """Its experiment's family; of one that is no longer among the experiments, the one that it was trained in."""
        return self.config.get("family") or get_experiment(self.experiment).family

    @property
    def data(self) -> dict:
        """Name, title, source and fingerprint of its data, their classes, and how many images of each split."""
        return self.metrics["data"]

    @property
    def test(self) -> dict:
        """Scores on the test split, means over its seeds."""
        return self.metrics["test"]

    @property
    def by_seed(self) -> dict[int, dict]:
        """The test scores of each seed."""
        return dict(zip(self.metrics["seeds"], self.metrics.get("by_seed", []), strict=False))

    @property
    def spread(self) -> dict:
        """Their standard deviations over seeds; empty for one seed."""
        return self.metrics["spread"]

    @property
    def changes(self) -> dict:
        """The settings that differ from the experiment's block, by name."""
        return self.config.get("changes", {})

    @property
    def synthetic(self) -> bool:
        return self.data["source"] == "synthetic"

    @property
    def published(self) -> bool:
        """Whether it is one of the repository's own."""
        return PUBLISHED in self.folder.parents

    @property
    def has_weights(self) -> bool:
        """Whether its weights are on this machine."""
        return any(file.is_file() for file in self.weights_files())

    @cached_property
    def loadable(self) -> bool:
        """Whether its weights can be had, downloaded if they are attached to a release; a message says why not."""
        if not self.has_weights and not self.released:
            return False
        try:
            self.fetch_weights()
            return True
        except InputError as error:
            display_message(str(error), warning=True)
            return False

    def weights_files(self) -> list[Path]:
        """Where its weights may lie: in its folder; of released ones, where they are laid out and where a download is
        kept."""
        files = [self.folder / "weights.safetensors"]
        if released := self.released:
            laid_out = RELEASED / released["file"]
            if laid_out.is_file() and find_sum(laid_out, laid_out.stat().st_mtime_ns) == released["sha256"]:
                files.append(laid_out)  # else of another training of the same name
            cache = Path(torch.hub.get_dir()) / "s18" / released["sha256"][:12]  # another release has other bytes
            files.append(cache / released["file"])
        return files

    @cached_property
    def released(self) -> dict:
        """`file` and `sha256` of weights that are attached to a release; empty for a record that keeps its own."""
        file = self.folder / "weights.json"
        content = read_json(file) if file.is_file() else {}
        name = str(content["file"]) if content else ""
        if Path(name).name != name or not isinstance(content.get("sha256", ""), str):
            raise damaged(file, ValueError("no file's name and sum"))
        return content

    def fetch_weights(self) -> Path:
        """The file with its weights, downloaded first if they are attached to a release; an InputError if there are
        none or they can't be had."""
        files = self.weights_files()
        if found := next((file for file in files if file.is_file()), None):
            return found
        if not self.released:
            raise InputError(f"{self.folder} keeps no weights: train {self.experiment} first")
        address, target = f"{RELEASE}/{self.released['file']}", files[-1]
        make_folder(target.parent, "choose another with TORCH_HOME")
        try:
            if not reachable(address):  # a download would wait without a limit
                raise ConnectionError("no answer")
            torch.hub.download_url_to_file(address, str(target), hash_prefix=self.released["sha256"], progress=False)
        except (OSError, RuntimeError) as error:  # no network, no release, or other bytes than these
            raise InputError(
                f"the weights of {self.folder.name} at {self.preset} can't be fetched from {address} ({error}): use "
                "another preset, or train it"
            ) from error
        return target

    def title(self) -> str:
        """The experiment's title and what differs, with the word *synthetic* where the data were."""
        title = get_experiment(self.experiment).title + describe_variant(self.config)
        return f"{title} (synthetic data)" if self.synthetic else title

    def label(self, others: Sequence["Record"] = ()) -> str:
        """The experiment in a few words and what differs; its preset too where that of others beside it is another."""
        preset = f" ({self.preset})" if any(other.preset != self.preset for other in others) else ""
        return get_experiment(self.experiment).label + describe_variant(self.config) + preset

    def examples(self, count: int) -> Batch:
        """Up to `count` of the test images that it keeps, always the same, as a float batch; an InputError if none.

        A UNet's first six are spread evenly over the test split.
        """
        kept = {name: self.stored_examples[name] for name in ("image", "label", "mask") if name in self.stored_examples}
        images = kept.get("image", torch.empty(0))
        if len(kept) < 2 or images.ndim != 4 or {len(values) for values in kept.values()} != {len(images)}:
            raise InputError(f"{self.folder} keeps no test images: train {self.experiment} again")
        rows = slice(count) if "mask" in kept else evenly_spread(len(images), count)
        return to_floats({name: values[rows] for name, values in kept.items()})

    def model(self) -> L.LightningModule:
        """The trained module, in evaluation mode, on the CPU; a conditional VAE's with the judges that have records.

        Raises:
            InputError: no weights, or weights that can't be fetched, do not fit its config or are not finite.
        """
        file = self.fetch_weights()
        module = build_module(self.family, self.settings, self.data)
        try:
            weights = load_tensors(file)
            module.load_state_dict(weights)
        except (RuntimeError, KeyError, TypeError, OSError, SafetensorError) as error:
            raise InputError(
                f"the weights in {self.folder} are damaged or do not fit its config.json: delete the folder and "
                "train again"
            ) from error
        floats = [values for values in weights.values() if values.is_floating_point()]
        if not all(values.isfinite().all() for values in floats) or not any(values.any() for values in floats):
            raise InputError(f"the weights in {self.folder} are not finite or all zero: train {self.experiment} again")
        if self.family == "cvae":
            judges = [judge for role, judge in self.networks().items() if role != "classifier" and judge]
            module.attach(judges=[judge.model().net for judge in judges])
        return module.eval().to(memory_format=torch.channels_last)

    def networks(self) -> dict[str, "Record | None"]:
        """The records of the networks that a conditional VAE was trained and scored with, by role."""
        return {
            role: next(
                (
                    record
                    for folder in (self.folder.parent, *folders_of(self.preset))
                    if (record := read_record(folder / name)) and record.preset == self.preset and record.has_weights
                ),
                None,
            )
            for role, name in self.config.get("networks", {}).items()
        }


def describe_variant(config: dict) -> str:
    """What follows an experiment's title in that of a run with such a `config.json`; nothing for its block as it is."""
    text = config.get("name") or describe_changes(config.get("changes", {}))
    return f", {text}" if text else ""


def runs_folder(preset: str) -> Path:
    """Where runs of a preset are kept unless told otherwise: `$S18_RUNS/<preset>`, `runs/<preset>` without it."""
    return local_path(os.environ.get("S18_RUNS") or "runs") / preset


def folders_of(preset: str) -> tuple[Path, ...]:
    """Where records of a preset are looked for: one's own runs, then what the repository publishes."""
    return runs_folder(preset), PUBLISHED, PUBLISHED / preset


def published_folders() -> tuple[Path, ...]:
    """Where the repository's records are: `figures/` has those of the preset published first, below it are others."""
    return PUBLISHED, *(PUBLISHED / preset for preset in PRESETS)


def read_record(folder: Path) -> Record | None:
    """The record in a folder, or None if there is none; an InputError if it can't be read."""
    while (folder / "metrics.json").is_file():
        before, record, fault = folder.stat().st_ino, None, None
        try:
            record = read_files(folder)
        except InputError as error:
            fault = error
        if folder.stat().st_ino == before:  # else it was replaced meanwhile
            if fault:
                raise fault
            return record
    return None


def read_files(folder: Path) -> Record:
    """The record whose files are in a folder that is not replaced meanwhile; an InputError if one can't be read."""
    metrics = read_json(folder / "metrics.json")
    wrong = [name for name, kind in METRICS.items() if not isinstance(metrics.get(name), kind)]
    wrong = wrong or [name for name in ("test", "spread") if not are_numbers(metrics[name])]
    wrong = wrong or [f"data.{name}" for name, kind in DATA.items() if not isinstance(metrics["data"].get(name), kind)]
    if wrong:
        raise InputError(f"{folder / 'metrics.json'} has no usable {', '.join(wrong)}: delete {folder} and train again")
    file = folder / "history.csv"
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
        history = [Content({name: to_number(text) for name, text in row.items() if text}, file) for row in rows]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise damaged(file, error) from error
    file = folder / "examples.safetensors"
    try:
        examples = load_tensors(file) if file.is_file() else {}
        if (file := folder / "photographs.png").is_file():
            examples["image"] = read_photographs(file, metrics["data"]["channels"])
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise damaged(file, error) from error
    return Record(folder, metrics, history, examples, read_config(folder / "config.json"))


def read_config(file: Path) -> dict:
    """What a record's `config.json` holds, nothing if there is none; an InputError if it can't be used."""
    content = read_json(file) if file.is_file() else {}
    wrong = [name for name, kind in CONFIG.items() if not isinstance(content.get(name, kind()), kind)]
    texts = [content.get("name") or "", *({} if wrong else content.get("networks", {})).values()]
    if wrong or not all(isinstance(text, str) for text in texts):
        raise damaged(file, ValueError(f"no usable {', '.join(wrong or ['name or networks'])}"))
    return content


def are_numbers(scores) -> bool:
    """Whether scores, however nested, are numbers; None is one that was not scored."""
    if isinstance(scores, dict | list):
        return all(map(are_numbers, scores.values() if isinstance(scores, dict) else scores))
    return scores is None or isinstance(scores, int | float)


def find_record(name: str, preset: str, out: str | Path | None = None) -> Record | None:
    """The record of that name, an experiment's or a variant's, at a preset: in `out`, else among runs and published."""
    check_choice("preset", preset, PRESETS)
    for folder in (local_path(out),) if out else folders_of(preset):
        record = read_record(folder / name)
        if record and record.preset == preset:
            return record
    return None


def find_records(names: Iterable[str], preset: str) -> list[Record]:
    """A record of each name, so that a comparison is never empty.

    The one at the preset if there is one, else the published one of another preset, which says so in every table.
    Names of which there is no record at all are left out.
    """
    others = [each for each in reversed(PRESETS) if each != preset]
    found = [find_record(name, preset) or find_published(name, *others) for name in names]
    return [record for record in found if record]


def find_published(name: str, *presets: str) -> Record | None:
    """The published record of that name at the first of some presets; by default the one in `figures/` itself, if there
    is one there.

    Raises:
        InputError: an unknown preset.
    """
    for preset in presets:
        check_choice("preset", preset, PRESETS)
    found = [record for folder in published_folders() if (record := read_record(folder / name))]
    ways = [record for preset in presets for record in found if record.preset == preset] if presets else found
    return next(iter(ways), None)


def read_series(folder: Path) -> list[Record]:
    """The records in a folder in the order of their names' numbers; an InputError if there are none."""
    found = [record for path in sorted(folder.glob("*/")) if (record := read_record(path))]
    if not found:
        raise InputError(f"there are no records in {folder}: run what makes them first")
    return sorted(found, key=lambda record: [int(part) for part in re.findall(r"\d+", record.folder.name)])


def find_references(name: str, preset: str) -> dict[str, Record]:
    """The published records of an experiment's `references` at a preset, by what differs, as far as there are any."""
    found = [read_record(path) for path in sorted((PUBLISHED / f"{name}-references").glob("*/"))]
    kept = [record for record in found if record and record.preset == preset]
    wanted = get_experiment(name).references.items()
    return {text: record for text, changes in wanted for record in kept if record.changes == changes}


def family_names(family: str) -> list[str]:
    """The names of a family's experiments, in the order of the notebooks."""
    return [experiment.name for experiment in EXPERIMENTS.values() if experiment.family == family]


def default_preset(experiment: str | None = None) -> str:
    """`$S18_PRESET`, or `full` on a GPU and `quick` on a CPU.

    On a CPU, too, it is `full` for an experiment whose weights at `full` come with the repository.
    """
    preset = os.environ.get("S18_PRESET")
    if not preset:
        published = find_published(experiment, "full") if experiment else None
        ready = published is not None and published.has_weights and not published.released
        preset = "full" if ready or device().type != "cpu" else "quick"
    check_choice("preset", preset, PRESETS)
    return preset


def existing_record(name: str, preset: str | None = None, out: str | Path | None = None) -> Record:
    """The record of that name, in `out` of whatever preset it is; an InputError says how to make one."""
    get_experiment(name.split("+")[0])
    if out and not preset and (there := read_record(local_path(out) / name)):
        return there
    preset = preset or default_preset(name)
    record = find_record(name, preset, out)
    if record is None:
        experiment, _, variant = name.partition("+")
        command = f"python -m s18_utils fit {experiment} --preset {preset}" + f" --out {out}" * bool(out)
        settings = " with the settings of this variant" * bool(variant)
        raise InputError(f"there is no record of {name} at {preset}: run `{command}`{settings} first")
    return record


def read_photographs(file: Path, channels: int) -> torch.Tensor:
    """Images, uint8 (N, channels, S, S), from a picture of one row."""
    row = torch.from_numpy(np.array(read_picture(file))).permute(2, 0, 1)
    return torch.stack(row.split(row.shape[1], dim=2))[:, :channels]


def read_json(path: Path) -> dict:
    """A file's JSON object; an InputError if it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_hook=lambda values: Content(values, path))
        if not isinstance(content, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return content


@functools.cache
def find_sum(file: Path, changed: int) -> str:
    """The SHA-256 of a file, as it is since it was `changed`."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"can't read {path} ({error}): delete {path.parent} and train again")


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON file in one step."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def to_number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and "." not in text else value
