"""The widgets where people meet them: a real JupyterLab, driven by a headless Chromium."""

import io
import os
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright import sync_api as playwright

TESTS = Path(__file__).resolve().parent
RESPONSE = 0.1  # seconds from a choice to the new picture
TRIES = 4  # the machine may be busy with something else
# Networks that were never trained: they draw something else under every label, which is all that is asked here.
# The settings are those of cvae-mnist at `tiny`.
CODE = f"""\
import sys; sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
import torch
from cvae_stand_ins import BandJudge, band_set
from s18_utils.cvae.swap import SwapScores
from s18_utils.data.batches import StoreData
from s18_utils.experiments import get_experiment
from s18_utils.presets import get_preset
from s18_utils.records import Record
from s18_utils.widgets import label_swap, own_digit

torch.manual_seed(0)
model = get_experiment("cvae-mnist").build(get_preset("cvae-mnist", "tiny").module)
for table in (model.vae.decoder.norm.gamma, model.vae.decoder.norm.beta):
    torch.nn.init.normal_(table.weight)
model.vae.decoder.draw.weight.data *= 10
model.scores = SwapScores(BandJudge(), BandJudge())
model.eval()

metrics = {{"experiment": "cvae-mnist", "data": {{"name": "mnist", "source": "synthetic"}}}}
record = Record(None, metrics, [], StoreData(band_set(), 8).stored_examples(40))"""
CELLS = [CODE, "label_swap(record, model)", "own_digit(model)"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab of this test's own that serves `play.ipynb`."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "root"
    root.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, root / "play.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
    ]
    own = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")}
    with (home / "log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *words, f"--ServerApp.root_dir={root}"]
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/api", server, home / "log")
            yield f"http://127.0.0.1:{port}/lab/tree/play.ipynb"
        finally:
            server.terminate()  # it ends its kernels
            server.wait(30)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def page(lab, chromium) -> Iterator[playwright.Page]:
    """The notebook after all its cells ran; at the end, nothing may have been logged as an error."""
    page, errors = chromium.new_page(viewport={"width": 1280, "height": 1000}), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(120_000)
    page.goto(lab)
    page.get_by_text("| Idle").wait_for()  # what is run before the kernel is there is not run at all
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".jp-OutputArea .widget-upload").wait_for()
    yield page
    page.close()
    assert errors == []


def change(page: playwright.Page, act) -> None:
    """Does something and waits until the label swap's picture is another."""
    picture = page.locator("img.widget-image")
    before = picture.get_attribute("src")
    act()
    playwright.expect(picture).not_to_have_attribute("src", before)
    playwright.expect(picture).to_have_js_property("complete", True)


def verdict(page: playwright.Page) -> str:
    return page.locator(".widget-html").first.inner_text()


def test_the_widget_is_there_at_once(page):
    assert page.locator("img.widget-image").evaluate("image => image.naturalWidth") == (28 + 2 + 28) * 7
    assert re.match(r"0 drawn as 1\s+[✓✗] the judge reads \d \(\d+% sure\)", verdict(page))
    assert page.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0


def test_choosing_another_label_changes_picture_and_verdict(page):
    menu = page.locator(".widget-dropdown select").first
    change(page, lambda: menu.select_option("7"))
    playwright.expect(page.locator(".widget-html").first).to_contain_text("0 drawn as 7")


def test_choosing_another_image_changes_picture_and_verdict(page):
    handle = page.locator(".widget-slider .noUi-handle").first
    change(page, lambda: handle.press("ArrowRight"))
    playwright.expect(page.locator(".widget-html").first).to_contain_text("1 drawn as 7")


def test_the_morph_slider_mixes_two_labels(page):
    handle = page.locator(".widget-slider .noUi-handle").nth(1)
    page.locator(".widget-dropdown select").nth(1).select_option("4")
    for share in ("5%", "10%"):
        change(page, lambda: handle.press("ArrowRight"))
        playwright.expect(page.locator(".widget-html").first).to_contain_text(f"4 {share}")
    change(page, lambda: handle.press("End"))
    playwright.expect(page.locator(".widget-html").first).to_contain_text("1 drawn as 4")


def test_the_picture_follows_a_choice_within_a_tenth_of_a_second(page):
    script = """async ([number, label]) => {
        const image = document.querySelector("img.widget-image"), before = image.src;
        const menu = document.querySelectorAll(".widget-dropdown select")[number];
        const changed = new Promise(done => new MutationObserver(done).observe(image, {attributeFilter: ["src"]}));
        const start = performance.now();
        menu.value = label;
        menu.dispatchEvent(new Event("change", {bubbles: true}));
        await changed;
        return (performance.now() - start) / 1000;
    }"""
    page.locator(".widget-slider .noUi-handle").nth(1).press("Home")
    page.wait_for_timeout(1000)
    for _ in range(TRIES):
        median = statistics.median(page.evaluate(script, [0, str(label)]) for label in (1, 2, 3, 5, 6, 8, 9, 0, 4))
        if median <= RESPONSE:
            return
    pytest.fail(f"the picture took {median:.3f} s")


def test_an_uploaded_drawing_is_drawn_under_all_ten_labels(page, tmp_path):
    pixels = np.full((200, 300, 3), 250, np.uint8)
    pixels[30:170, 140:160] = 20
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    upload = page.locator(".jp-OutputArea input[type=file]")
    if upload.count() == 0:  # the button makes its input when it is pressed
        with page.expect_file_chooser() as chooser:
            page.locator(".widget-upload").click()
        upload = chooser.value
    upload.set_files({"name": "one.png", "mimeType": "image/png", "buffer": file.getvalue()})
    tiles = page.locator(".widget-html figure img")
    playwright.expect(tiles).to_have_count(11)
    assert len({tile.get_attribute("src") for tile in tiles.all()}) == 11
    assert all(tile.evaluate("image => image.naturalWidth") == 28 * 3 for tile in tiles.all())
    page.locator(".widget-html").last.scroll_into_view_if_needed()
    if folder := os.environ.get("S18_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/lab.png")


def test_a_file_that_is_no_picture_gives_one_sentence_and_no_traceback(page):
    with page.expect_file_chooser() as chooser:
        page.locator(".widget-upload").click()
    chooser.value.set_files({"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    playwright.expect(page.locator(".widget-html").last).to_contain_text("can't read this file as a picture: upload")
    assert page.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0
    assert page.locator(".jp-RenderedText[data-mime-type*=error]").count() == 0
