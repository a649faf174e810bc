"""What the kernel answers to views in the browser: masks for squares of photographs, drawings for codes."""

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence
from play_stand_ins import band_record, write_untrained

from s18_utils.errors import InputError
from s18_utils.play.scripts import STATIC, MapView, PadView, PhotoView, View, bundle_scripts
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
    assert len(view.examples) > 1000
    assert "Trained on" in view.about["note"]


def test_a_square_of_another_size_gives_one_sentence(records):
    content, _ = ask(own_photo(*records), {}, np.zeros(5, np.uint8), np.zeros((3, 32, 32), np.uint8))
    assert_one_sentence(content["error"], "this did not work", "run the cell again")


def test_records_without_weights_are_left_out_or_said(records, tmp_path):
    bare = Record(tmp_path, records[0].metrics, [])
    bare.__dict__["config"] = {"family": "unet"}
    assert len(own_photo(bare, records[1]).about["networks"]) == 1
    assert_one_sentence(own_photo(bare).children[0].value, "keeps no weights")
    for wrong in ([], [band_record()]):
        with pytest.raises(InputError) as caught:
            own_photo(*wrong)
        assert_one_sentence(str(caught.value), "makes no masks")


def test_the_map_has_the_codes_of_the_test_images_and_draws_what_is_asked():
    record = band_record()
    view = latent_map(record)
    numbers, arrays = np.frombuffer(view.numbers, np.float32), dict(view.about["arrays"])
    assert sum(arrays.values()) == len(numbers)
    assert arrays["codes"] == 40 * 3
    codes = numbers[: 40 * 3].reshape(40, 3)
    np.testing.assert_allclose(codes[:, 1] * 10, view.about["labels"], atol=1e-5)
    _, [answer] = ask(view, {"labels": [4, 9]}, np.float32([[0.5, 0, 0], [1, 0, 0]]))
    drawings = np.frombuffer(answer, np.float32).reshape(2, 28, 28)
    assert drawings.mean(2).argmax(1).tolist() == [8, 18]
    assert drawings.max((1, 2)).tolist() == [0.5, 1]
    content, _ = ask(view, {"labels": [4]}, np.zeros(2, np.float32))
    assert "error" in content


def test_a_map_of_too_few_images_or_of_a_unet_is_said(records, tmp_path):
    record = band_record()
    few = {name: values[:2] for name, values in record.stored_examples.items()}
    sentence = latent_map(type(record)(record.folder, record.metrics, [], few, record.painter)).children[0].value
    assert_one_sentence(sentence, "2 codes make no map")
    with pytest.raises(InputError, match="no labels to swap"):
        latent_map(records[0])


def test_a_bundle_is_one_module_with_one_default_export(tmp_path):
    for view, names in {PadView: ["Pad"], PhotoView: ["PhotoView", "readPicture"], MapView: ["MapView"]}.items():
        script = str(view._esm)
        assert "\nimport " not in script
        assert script.count("export default {") == 1
        for name in names:
            assert f"class {name} " in script or f"function {name}(" in script
    assert "export default" not in bundle_scripts("pad.js", "tiles.js")


def test_the_scripts_are_those_of_the_page():
    page = (STATIC / "playground.js").read_text()
    for name in ("pad.js", "photo.js", "map.js", "tiles.js"):
        assert f'from "./{name}"' in page


def test_the_kernel_says_nothing_to_what_is_no_question():
    view, sent = View(lambda content, buffers: [b""]), []
    view.send = lambda *arguments: sent.append(arguments)
    view.receive(view, {"kind": "anywidget-command"}, [])
    assert sent == []
