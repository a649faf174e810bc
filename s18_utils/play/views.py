"""Widgets that share their scripts with the page: a photograph of one's own, and a map of the latent space."""

import numpy as np
import torch

from s18_utils.data.batches import StoreData
from s18_utils.device import autocast
from s18_utils.errors import InputError
from s18_utils.play.labels import check_family, run_networks, say_instead
from s18_utils.play.latent import describe_painter, map_images
from s18_utils.play.photographs import describe_unets
from s18_utils.play.scripts import MapView, PhotoView
from s18_utils.records import Record

MARKS = 500  # on a map, at most


def own_photo(*records: Record):
    """A photograph of yours, from a file or the camera, and what each network sees in it, side by side.

    The browser squeezes the photograph to the size of each network's training images and enlarges the answers to the
    photograph's own: the photograph itself stays in the browser.

    Args:
        records: of UNets; those whose weights can't be had are left out, and a sentence says so if that are all.

    Raises:
        InputError: no record, or the record of something else.
    """
    others = [record.experiment for record in records if record.family != "unet"]
    if others or not records:
        raise InputError(f"{others[0] if others else 'nothing'} makes no masks: give records of UNets")
    able = [record for record in records if record.loadable]
    if not able:
        return say_instead(f"{records[0].folder} keeps no weights: train {records[0].experiment} first")
    modules = [record.model() for record in able]
    about, content = describe_unets(able)

    def answer(content: dict, buffers: list[memoryview]) -> list[bytes]:
        answers = []
        for module, network, buffer in zip(modules, about["networks"], buffers, strict=True):
            square = np.frombuffer(buffer, np.uint8).reshape(1, 3, network["size"], network["size"])
            with autocast():
                probabilities = module.predict_probabilities(torch.from_numpy(square.copy()))
            answers.append(probabilities.float().numpy().tobytes())
        return answers

    return PhotoView(answer, about=about, content=content)


def latent_map(record: Record, data: StoreData | None = None):
    """A map of the latent space to walk in: drag a point over test codes, and see what is drawn there.

    Args:
        record: a conditional VAE's; one without weights or test images as of `label_swap`.
        data: take the map's test images from here, up to 500; by default from the record.

    Raises:
        InputError: the record of something else.
    """
    check_family(record)
    try:
        module = record.model()
        batch = (data or record).examples(MARKS)
        space = map_images(module, batch)
    except InputError as error:
        return say_instead(str(error))
    about, content = describe_painter(module, batch, **space._asdict())
    return MapView(run_networks(module), about=about, content=content)
