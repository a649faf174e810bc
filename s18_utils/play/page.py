"""The playground as files: scripts, runtime and networks, and the piece of HTML that a page wraps around them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from s18_utils.experiments import EXPERIMENTS, PRESETS
from s18_utils.play.export import export_cvae, write_unet
from s18_utils.play.photographs import describe_unets
from s18_utils.play.runtime import copy_runtime
from s18_utils.play.scripts import STATIC
from s18_utils.records import Record, find_published

FOLDERS = ("scripts", "runtime", "models")  # beside the page, served as they are
BODY = STATIC.parent / "playground.html"  # no blank lines, so that it can stand in Markdown
LARGEST = 7_500_000  # bytes of a network that visitors of a page can be asked to wait for, in half precision


def write_players(folder: Path, players: Sequence[Record] | None = None) -> list[str]:
    """Writes all that the playground needs beside its page, whose body is `BODY`.

    Args:
        folder: where the page will be; it must exist.
        players: the records to play with; by default `find_players()`.

    Returns:
        The experiments that can be played with; if there are none, nothing is written.

    Raises:
        InputError: no npm for the runtime, or a record whose weights can't be used.
    """
    players = find_players() if players is None else players
    if not players:
        return []
    for name in FOLDERS:
        (folder / name).mkdir(exist_ok=True)
    copy_runtime(folder / "runtime")
    for file in STATIC.iterdir():
        shutil.copy(file, folder / "scripts")
    unets, sets, photos = [record for record in players if record.family == "unet"], {}, None
    for record in players:
        (folder / "models" / record.folder.name).mkdir()
        if record.family == "cvae":
            sets[record.folder.name] = export_cvae(record, folder / "models" / record.folder.name)
        else:
            write_unet(record, folder / "models" / record.folder.name / "network.onnx")
    if unets:
        photos, content = describe_unets(unets)
        (folder / "models" / "photographs.png").write_bytes(content)
        for network, record in zip(photos["networks"], unets, strict=True):
            network["file"] = f"models/{record.folder.name}/network.onnx"
    (folder / "models" / "players.json").write_text(json.dumps({"photos": photos, "sets": sets}), encoding="utf-8")
    return list(dict.fromkeys(record.experiment for record in players))


def find_players() -> list[Record]:
    """Of each experiment the published record with weights that a page can carry, the largest preset first."""
    found = []
    for name, experiment in EXPERIMENTS.items():
        ways = [find_published(name, preset) for preset in reversed(PRESETS)]
        kept = [record for record in ways if record and record.has_weights]
        if experiment.family == "unet":
            kept = [record for record in kept if 2 * record.metrics["parameters"] <= LARGEST]
        found += kept[:1]
    return found
