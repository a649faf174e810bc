"""The one function that trains every experiment: `train_or_load`."""

import functools
import shutil
from dataclasses import asdict
from pathlib import Path

import lightning as L

from s18_utils import cvae_plots, plots, records
from s18_utils.data import DataSet, open_data
from s18_utils.data.augmentation import augment_labelled, augment_pets
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.experiments import Experiment, get_experiment
from s18_utils.hardware import ONE_DEVICE, Hardware, is_first_process, wait_for_others
from s18_utils.presets import Preset, default_preset, get_preset
from s18_utils.progress import tell
from s18_utils.records import Record
from s18_utils.seed_run import Run, train_seed
from s18_utils.seed_run import score as score  # of notebooks and the command line, too
from s18_utils.trainer import describe_device, precision

FIGURES = {"unet": plots.figures, "cvae": cvae_plots.figures, "classifier": plots.classifier_figures}
EXAMPLES = {"cvae": 100}  # test images kept with a record, for its pictures and the widget
AUGMENT = {"pets": augment_pets, "mnist": augment_labelled, "cifar10": augment_labelled}


def build_data(experiment: str, preset: str | None = None, source: str | None = None, seed: int = 0) -> StoreData:
    """The data module of an experiment; see `open_data` for what can go wrong."""
    settings = get_preset(experiment, preset or default_preset(experiment))
    data = open_data(get_experiment(experiment).data, settings.size, source or settings.source)
    return batches_of(data, settings, seed)


def batches_of(data: DataSet, settings: Preset, seed: int) -> StoreData:
    augment = functools.partial(AUGMENT[data.name], **settings.augment)
    return StoreData(data, settings.batch_size, seed, settings.limit, augment, settings.half_size_epochs)


def train_or_load(
    experiment: str,
    preset: str | None = None,
    *,
    source: str | None = None,
    seeds: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    retrain: bool = False,
    hardware: Hardware = ONE_DEVICE,
) -> Record:
    """The record of an experiment: an existing one of the same settings and data, else a newly trained one.

    Training keeps the weights of the epoch with the best validation score and scores them once on the test split.
    Interrupting it keeps what was reached, as a record that says so.

    Args:
        experiment: a name in `EXPERIMENTS`.
        preset: `tiny`, `quick` or `full`; by default what suits the device.
        source: where the data come from, see `data.sources`; by default the preset's.
        seeds: train so many times, with seeds 0, 1, …; the record then holds mean and spread. A record of more seeds
            serves as well.
        out: folder for the record; by default `runs/<preset>`.
        resume: go on from the last finished epoch of a run that was interrupted.
        retrain: train even if there is such a record.
        hardware: the devices to train on; by default one.

    Raises:
        InputError: an unknown name, data or devices that can't be had, a folder that can't be written to.
        FloatingPointError: the loss became infinite or no number.
    """
    spec, preset = get_experiment(experiment), preset or default_preset(experiment)
    settings = get_preset(experiment, preset)
    if seeds < 1:
        raise InputError(f"seeds is how many times to train, not {seeds}: use 1 or more")
    for name in (experiment, *spec.needs.values()):
        hardware.check(get_preset(name, preset).batch_size)
    data = open_data(spec.data, settings.size, source or settings.source)
    first = batches_of(data, settings, seed=0)
    if spec.family != "classifier":  # these are trained for an experiment that says it for them
        tell(first.describe(), warning=data.source == "synthetic")

    config = {"experiment": experiment, "preset": preset, "seeds": seeds, **asdict(settings)}
    config |= {"source": data.source, "fingerprint": data.fingerprint}
    folder = Path(out or records.runs_folder(preset)) / experiment
    kept = records.find_record(experiment, preset, out)
    if kept and not retrain:
        asked_for_real = (source or settings.source) != "synthetic"
        any_real_data = asked_for_real and (data.source == "synthetic" or kept.published)
        if is_repeated(kept, config, any_real_data, resume):
            tell(f"Loaded the record of {experiment}: {plots.provenance(kept)}", warning=kept.synthetic)
            return kept
        if kept.folder == folder and kept.metrics["preset"] != preset:
            raise InputError(
                f"{folder} holds a record of preset {kept.metrics['preset']}: "
                "choose another folder, or retrain to replace it"
            )

    helpers = train_helpers(spec, preset, source, out, hardware)
    partial = start_folder(records.make_folder(folder.parent) / f".{experiment}.training", config, resume)
    runs: list[Run] = []
    try:
        for seed in range(spec.seed, spec.seed + seeds):
            batches, seed_folder = batches_of(data, settings, seed), partial / f"seed-{seed}"
            runs.append(train_seed(spec, settings, batches, seed, seed_folder, helpers, hardware, resume))
            if runs[-1].interrupted:
                break
    except FloatingPointError:
        discard(partial)
        raise
    except InputError:  # a judge that can't be used, before the first step
        if not any(partial.rglob("*.ckpt")):
            discard(partial)
        raise
    except KeyboardInterrupt as error:
        if not runs:
            if not any(partial.rglob("*.ckpt")):
                discard(partial)
            tell(str(error), warning=True)
            raise
        runs[-1].interrupted = True
    if is_first_process():
        write(spec, preset, first, runs, config, folder, helpers, hardware)
        if not runs[-1].interrupted:
            discard(partial)
    wait_for_others()
    if runs[-1].interrupted:
        tell(
            f"Interrupted: kept the best weights so far in {folder}; resume to go on from the last epoch.", warning=True
        )
    return records.read_record(folder)


def train_helpers(
    spec: Experiment,
    preset: str,
    source: str | None,
    out: str | Path | None,
    hardware: Hardware = ONE_DEVICE,
) -> dict[str, Record]:
    """The records of the networks that an experiment leans on, by role; trained first where there are none."""
    helpers = {}
    for role, name in spec.needs.items():
        helpers[role] = train_or_load(name, preset, source=source, out=out, resume=True, hardware=hardware)
        if helpers[role].metrics["interrupted"]:
            raise KeyboardInterrupt(f"Interrupted while training {name}: run this again to go on.")
    return helpers


def load_trained(record: Record, out: str | Path | None = None) -> L.LightningModule:
    """A record's module with the networks it leans on, ready to be scored; an InputError if one has no record."""
    module, spec = record.model(), get_experiment(record.metrics["experiment"])
    helpers = {role: records.find_record(name, record.metrics["preset"], out) for role, name in spec.needs.items()}
    missing = [spec.needs[role] for role, helper in helpers.items() if helper is None]
    if missing:
        raise InputError(f"there is no record of {' and '.join(missing)}: run `fit` for {spec.name} first")
    if helpers:
        module.attach(**helpers)
    return module


def start_folder(partial: Path, config: dict, resume: bool) -> Path:
    """Makes the folder of a running training, or checks that the one to go on from was run with `config`."""
    started = partial / "config.json"
    if resume and started.is_file():
        before = records.read_json(started)
        other = [key for key in config if key not in ("seeds", "source") and before.get(key) != config[key]]
        if other:
            raise InputError(
                f"the interrupted run in {partial.parent} had another {' and '.join(other)}: "
                "resume it as it was started, or start again without resume"
            )
    if is_first_process():
        if not resume:
            discard(partial)
        records.make_folder(partial)
        records.write_json(started, config)
    return partial


def discard(folder: Path) -> None:
    """Removes a folder; that another process of the run is at it too, or was first, is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def is_repeated(kept: Record, config: dict, any_real_data: bool, resume: bool) -> bool:
    """Whether a run with `config` would only repeat the record that was kept, or a part of it.

    With `any_real_data` a record trained on other real data serves as well: for a reader who has none at hand, or
    another copy of the set than the one that the repository's own weights were trained on.
    """
    if not kept.has_weights or (kept.metrics["interrupted"] and resume):
        return False
    same = {key for key in config if kept.config.get(key) == config[key]}
    missing = set(config) - same - {"source"}  # the same bytes by another way are the same data
    if config["seeds"] <= kept.config.get("seeds", 0):  # the first seeds, whose weights are kept, are among them
        missing -= {"seeds"}
    return not missing or (any_real_data and not kept.synthetic and missing == {"fingerprint"})


def write(
    spec: Experiment,
    preset: str,
    data: StoreData,
    runs: list[Run],
    config: dict,
    folder: Path,
    helpers: dict[str, Record],
    hardware: Hardware,
) -> None:
    """Turns finished runs into a record with its figures."""
    history = [row for run in runs for row in run.history]
    test, spread = records.summarise([run.test for run in runs])
    validation, _ = records.summarise([run.validation for run in runs])
    module = spec.build(config["module"])
    if helpers:
        module.attach(**helpers)
    module.load_state_dict(runs[0].weights)
    metrics = {
        "experiment": spec.name,
        "preset": preset,
        "data": {
            "name": data.data.name,
            "source": data.data.source,
            "size": config["size"],
            "train": len(data.train),
            "val": len(data.val),
            "test": len(data.test),
            "fingerprint": data.data.fingerprint,
        },
        "device": describe_device(hardware.processes),
        "precision": precision(),
        "epochs": max(row["epoch"] for row in history),
        "interrupted": runs[-1].interrupted,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "seeds": [run.seed for run in runs],
        **records.surroundings(),
        "parameters": sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
        "validation": validation,
        "test": test,
        "spread": spread,
    }
    examples = data.stored_examples(EXAMPLES[spec.family]) if spec.family in EXAMPLES else {}
    record = Record(folder, metrics, history, examples)
    figures = FIGURES[spec.family](record, module.eval(), data)
    records.write_record(record, config, runs[0].weights, figures)
