"""What the kernel answers to views in the browser: masks for squares of photographs, codes, drawings and readings."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence, sample_metrics
from cvae_stand_ins import BandJudge, bands
from PIL import Image
from play_stand_ins import band_record, write_untrained

from s18_utils.errors import InputError
from s18_utils.play.labels import label_swap, own_digit
from s18_utils.play.scripts import STATIC, MapView, PhotoView, SwapView, View, bundle_scripts
from s18_utils.play.views import latent_map, own_photo
from s18_utils.records import Record


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    folder = tmp_path_factory.mktemp("records")
    first = write_untrained(folder, "unet-maxpool-transpose-bce")
    return [first, write_untrained(folder, "unet-strided-upsample-dice", size=32, examples=False)]


def ask(view: View, content: dict, *arrays: np.ndarray) -> tuple[dict, list]:
    """What the view sends back to a question from its script."""
    sent = []
    view.send = lambda content, buffers=None: sent.append((content, buffers))
    view.receive(view, content | {"id": 7}, [memoryview(array.tobytes()) for array in arrays])
    assert len(sent) == 1
    assert sent[0][0]["id"] == 7
    return sent[0]


def test_every_network_answers_at_its_own_size(records):
    view = own_photo(*records)
    networks = view.about["networks"]
    assert [network["size"] for network in networks] == [48, 32]
    assert [network["label"] for network in networks] == [record.label() for record in records]
    squares = [np.random.default_rng(0).integers(0, 256, (3, size, size), np.uint8) for size in (48, 32)]
    _, answers = ask(view, {}, *squares)
    for record, square, answer in zip(records, squares, answers, strict=True):
        probabilities = np.frombuffer(answer, np.float32).reshape(3, record.data["size"], -1)
        expected = record.model().predict_probabilities(torch.from_numpy(square)[None])[0]
        np.testing.assert_allclose(probabilities, expected, atol=0.02)  # half precision where the device has it
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-3)
    assert "Trained on" in view.about["note"]


def test_the_pictures_to_choose_from_are_the_records_else_drawn_by_code(records):
    view, kept = own_photo(records[1], records[0]), records[0].stored_examples
    picture = np.asarray(Image.open(io.BytesIO(view.content)))
    assert (view.about["examples"], view.about["truth"]) == (12, 1)
    assert picture.shape == (2 * 48, 12 * 48, 3)
    np.testing.assert_array_equal(picture[:48, 48:96].transpose(2, 0, 1), kept["image"][1])
    np.testing.assert_array_equal(picture[48:, 48:96, 0], kept["mask"][1])
    assert "drawn by code" not in view.about["note"]
    view = own_photo(records[1])
    assert Image.open(io.BytesIO(view.content)).size == (12 * 32, 32)
    assert view.about["truth"] is None
    assert "drawn by code" in view.about["note"]


def test_a_square_of_another_size_gives_one_sentence(records):
    content, _ = ask(own_photo(*records), {}, np.zeros(5, np.uint8), np.zeros((3, 32, 32), np.uint8))
    assert_one_sentence(content["error"], "this did not work", "run the cell again")


def test_records_without_weights_are_left_out_or_said(records, tmp_path):
    bare = Record(tmp_path, records[0].metrics, [], config={"family": "unet"})
    assert len(own_photo(bare, records[1]).about["networks"]) == 1
    assert_one_sentence(own_photo(bare).value, "keeps no weights")
    for wrong in ([], [band_record()]):
        with pytest.raises(InputError) as caught:
            own_photo(*wrong)
        assert_one_sentence(str(caught.value), "makes no masks")


def unpack(view: View) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays in a view's content by name, and the images behind them."""
    arrays, at = {}, 0
    for name, length in view.about["arrays"]:
        arrays[name] = np.frombuffer(view.content, np.float32, length, 4 * at)
        at += length
    return arrays, np.frombuffer(view.content, np.uint8, offset=4 * at)


@pytest.mark.parametrize("play", [label_swap, own_digit, latent_map])
def test_the_kernel_draws_and_reads_for_each_view(play):
    record = band_record(BandJudge(), BandJudge(blind=True))
    view = play(record)
    arrays, images = unpack(view)
    labels = np.array(view.about["labels"])
    assert images.reshape(len(labels), 28, 28).mean(2).argmax(1).tolist() == (2 * labels).tolist()
    if play == latent_map:
        np.testing.assert_allclose(arrays["codes"].reshape(len(labels), 3)[:, 1] * 10, labels, atol=1e-5)
    rows = torch.lerp(torch.eye(10)[2], torch.eye(10)[[6, 2]], torch.tensor([[0.25], [0.0]])).numpy()
    _, [answer] = ask(view, {"work": "decode"}, np.float32([[0.5, 0, 0], [1, 0, 0]]), rows)
    drawings = np.frombuffer(answer, np.float32).reshape(2, 1, 28, 28)
    np.testing.assert_allclose(drawings[0, 0, [4, 12], 0], [0.375, 0.125])
    np.testing.assert_allclose(drawings[1, 0, [4, 12], 0], [1, 0])
    image = bands(torch.tensor([7]), torch.tensor([0.6])).numpy()
    for told, label in ((None, 7), (3, 3)):  # what the first judge reads, or what the visitor says
        record.painter.told.clear()
        _, answers = ask(view, {"work": "swap", "label": told}, image, rows)
        own, drawings, chances = (np.frombuffer(each, np.float32) for each in answers)
        assert (own.tolist(), record.painter.told) == ([label], [{label}])
        np.testing.assert_allclose(drawings.reshape(2, 28, 28)[:, [4, 12], 0], [[0.45, 0.15], [0.6, 0]], rtol=1e-5)
        chances = chances.reshape(2, 2, 10)  # judge, image, class
        assert chances.argmax(2).tolist() == [[2, 2], [0, 0]]
        np.testing.assert_allclose(chances[1], 0.1)
    content, _ = ask(view, {"work": "decode"}, np.zeros(2, np.float32), rows)
    assert_one_sentence(content["error"], "run the cell again")


def test_a_pad_is_there_for_digits_alone():
    assert (label_swap(band_record()).about["pad"], own_digit(band_record()).about["pad"]) == (False, True)
    with pytest.raises(InputError) as caught:
        own_digit(band_record(channels=3, side=32))
    assert_one_sentence(str(caught.value), "cvae-mnist")


def test_a_record_without_what_it_takes_or_of_a_unet_is_said(records, tmp_path):
    record = band_record()
    few = {name: values[:2] for name, values in record.stored_examples.items()}
    few = dataclasses.replace(record, stored_examples=few, judges=())
    assert_one_sentence(latent_map(few).value, "2 codes make no map")
    assert label_swap(few).about["judges"] == 0
    metrics = sample_metrics(experiment="cvae-mnist", data=record.data)
    bare = Record(tmp_path, metrics, [], record.stored_examples, {"family": "cvae"})
    for play in (label_swap, own_digit, latent_map):
        assert_one_sentence(play(bare).value, "keeps no weights", "train cvae-mnist first")
        with pytest.raises(InputError, match="no labels to swap"):
            play(records[0])


def test_a_bundle_is_one_module_with_one_default_export(tmp_path):
    parts = {SwapView: ["Pad", "readPicture"], PhotoView: ["PhotoView", "readPicture"], MapView: ["MapView", "Painter"]}
    for view, names in parts.items():
        script = str(view._esm)
        assert "\nimport " not in script
        assert script.count("export default {") == 1
        for name in names:
            assert f"class {name} " in script or f"function {name}(" in script
    assert "export default" not in bundle_scripts("photo.js", "tiles.js")


def test_the_scripts_are_those_of_the_page():
    page = (STATIC / "playground.js").read_text()
    for name in ("swap.js", "photo.js", "map.js", "tiles.js"):
        assert f'from "./{name}"' in page


def test_the_kernel_says_nothing_to_what_is_no_question():
    view, sent = View(lambda content, buffers: [b""]), []
    view.send = lambda *arguments: sent.append(arguments)
    view.receive(view, {"kind": "anywidget-command"}, [])
    assert sent == []
