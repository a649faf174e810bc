"""The widgets where people meet them: a real JupyterLab, driven by a headless Chromium."""

import os
import socket
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
from play_stand_ins import write_untrained
from playwright import sync_api as playwright

TESTS = Path(__file__).resolve().parent.parent
# Seconds from a stroke to all drawings and what the judge reads in them: what is felt as at once (Nielsen 1993). Two
# cores of 2020 with nothing else to do need 0.035; here another worker's tests run beside.
RESPONSE = 0.1
STROKES = 40  # at most, for one that nothing else on the machine held up
URL = "canvas => canvas.toDataURL()"
SET_UP = f"""\
import sys; sys.path[:0] = [{str(TESTS.parent)!r}]
from pathlib import Path
from s18_utils.play.labels import label_swap, own_digit
from s18_utils.play.views import latent_map, own_photo
from s18_utils.records import read_record
names = ["unet-maxpool-transpose-bce", "unet-strided-upsample-dice", "cvae-mnist"]
*unets, cvae = [read_record(Path("figures") / name) for name in names]"""
CELLS = [SET_UP, "label_swap(cvae)", "own_digit(cvae)", "latent_map(cvae)", "own_photo(*unets)"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab of this test's own that serves `play.ipynb`."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "root"
    root.mkdir()
    for name in ("unet-maxpool-transpose-bce", "unet-strided-upsample-dice", "judge-mnist"):
        write_untrained(root / "figures", name)
    write_untrained(root / "figures", "cvae-mnist", networks=("judge",))
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
def page(chromium, lab) -> Iterator[playwright.Page]:
    """The notebook after all its cells ran; at the end, nothing may have been logged as an error."""
    page, errors = chromium.new_page(viewport={"width": 1280, "height": 1000}), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(60_000)
    page.goto(lab)
    page.get_by_text("| Idle").wait_for()  # what is run before the kernel is there is not run at all
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".s18-answers").wait_for()
    yield page
    assert (
        page.locator(".jp-OutputArea-output[data-mime-type*=stderr], .jp-RenderedText[data-mime-type*=error]").count()
        == 0
    )
    page.close()
    assert errors == []


def change_canvas(page: playwright.Page, canvas: playwright.Locator, act) -> None:
    """Does something and waits until a canvas shows something else."""
    before = canvas.evaluate(URL)
    act()
    page.wait_for_function("([it, before]) => it.toDataURL() !== before", arg=[canvas.element_handle(), before])


def take_picture(page: playwright.Page, name: str) -> None:
    if folder := os.environ.get("S18_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")


def test_the_swap_is_there_at_once_and_follows_its_controls(page):
    view = page.locator(".jp-OutputArea:has([data-part=output])").nth(0)
    output, verdict = (view.locator(f"[data-part={part}]") for part in ("output", "verdict"))
    playwright.expect(verdict).to_contain_text("the judge reads")
    for act in (
        lambda: view.locator("[data-part=examples] button").nth(5).click(),
        lambda: view.locator("[data-part=asked]").select_option("9"),
        lambda: view.locator("[data-part=share]").fill("60"),
    ):
        change_canvas(page, output, act)
    assert view.locator("[data-part=pad]").count() == 0
    take_picture(page, "lab-swap")


def test_keys_in_a_control_are_meant_for_it(page):
    cells = page.locator(".jp-Notebook .jp-Cell")
    before = cells.count()
    for part in ("asked", "share"):
        page.locator(f".jp-OutputArea [data-part={part}]").first.focus()
        for _ in range(2):  # to JupyterLab: delete the cell
            page.keyboard.press("d")
    assert cells.count() == before


def test_a_digit_is_drawn_on_the_pad_and_read_while_the_pen_is_down(page):
    view = page.locator(".jp-OutputArea:has([data-part=output])").nth(1)
    pad, drawing = view.locator(".s18-pad"), view.locator("[data-part=drawings] canvas").first
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    down = box["y"] + 0.8 * box["height"]
    change_canvas(page, drawing, lambda: page.mouse.move(box["x"] + 0.45 * box["width"], down, steps=6))
    page.mouse.up()
    take_picture(page, "lab-pad")
    # From a stroke on the pad to all drawings with their readings.
    script = """async ({ strokes, response }) => {
        const pad = document.querySelector(".s18-pad"), box = pad.getBoundingClientRect(), times = [];
        const output = pad.closest(".s18-play").parentElement.parentElement.querySelector("[data-part=verdict]");
        const move = (kind, across) => pad.dispatchEvent(new PointerEvent(kind, {
            pointerId: 1, isPrimary: true, clientX: box.left + across * box.width, clientY: box.top + box.height / 2,
        }));
        pad.setPointerCapture = () => {};
        move("pointerdown", 0.2);
        while (times.length < strokes && !times.some((time) => time <= response)) {
            await new Promise((done) => setTimeout(done, 300));
            const changed = new Promise((done) => new MutationObserver(done).observe(output, { childList: true }));
            const start = performance.now();
            move("pointermove", 0.2 + (0.6 * (times.length + 1)) / strokes);
            await changed;
            times.push((performance.now() - start) / 1000);
        }
        move("pointerup", 0.8);
        return times;
    }"""
    assert min(page.evaluate(script, {"strokes": STROKES, "response": RESPONSE})) <= RESPONSE


def test_the_map_draws_what_lies_under_the_ring(page):
    plane, drawing = page.locator(".s18-map"), page.locator(".jp-OutputArea [data-part=drawing]")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    change_canvas(
        page, drawing, lambda: page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"])
    )
    change_canvas(page, drawing, lambda: page.locator("[data-part=drawn-as]").select_option("3"))
    change_canvas(page, drawing, lambda: page.locator("[data-part=sample]").click())
    take_picture(page, "lab-map")


def test_a_large_photograph_is_answered_by_every_network(page, tmp_path):
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=90)
    answers = page.locator(".s18-answers figure:visible")
    assert answers.count() == 3  # two networks, and how people marked the first picture
    change_canvas(
        page,
        answers.first.locator("canvas"),
        lambda: page.locator("[data-part=file]").set_input_files(tmp_path / "large.jpg"),
    )
    for words in answers.locator("figcaption span").all():
        playwright.expect(words).to_contain_text("%")
    answers.first.scroll_into_view_if_needed()
    take_picture(page, "lab-photo")
    page.locator("[data-part=file]").set_input_files(
        {"name": "a.svg", "mimeType": "image/svg+xml", "buffer": b"<svg/>"}
    )
    playwright.expect(page.locator("[data-part=message]")).to_contain_text("SVG")
