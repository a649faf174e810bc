"""The page's views as widgets: one script for both, by anywidget."""

import re
from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

from s18_utils.errors import InputError

STATIC = Path(__file__).resolve().parent / "static"
Answer = Callable[[dict, list[memoryview]], list[bytes] | None]


def bundle_scripts(*names: str) -> str:
    """Scripts of the page as one module, as a widget has to be: without imports, and with the last default export."""
    texts = [(STATIC / name).read_text(encoding="utf-8") for name in names]
    inner = [re.sub(r"^export default \{.*?^\};\n", "", text, flags=re.M | re.S) for text in texts[:-1]]
    return re.sub(r"^import .*\n", "", "\n".join([*inner, texts[-1]]), flags=re.M)


class View(anywidget.AnyWidget):
    """A view whose script asks the kernel: a question, a dict and buffers, is answered by buffers or one sentence."""

    _css = STATIC / "play.css"
    about = traitlets.Dict().tag(sync=True)
    content = traitlets.Bytes(b"").tag(sync=True)

    def __init__(self, answer: Answer | None = None, **traits):
        super().__init__(**traits)
        self.answer = answer
        self.on_msg(self.receive)

    def receive(self, widget: anywidget.AnyWidget, content: dict, buffers: list[memoryview]) -> None:
        """Answers one question from the browser."""
        if self.answer is None or "id" not in content:
            return
        try:
            self.send({"id": content["id"]}, self.answer(content, buffers))
        except Exception as error:  # nobody sees a traceback of a callback
            self.send({"id": content["id"], "error": describe_error(error)})

    def __repr__(self) -> str:
        return "Here is something to play with, while the notebook's kernel runs."


def describe_error(error: Exception) -> str:
    """An error in one sentence."""
    if isinstance(error, InputError):
        return str(error)
    reason = (str(error).splitlines() or ["no reason given"])[0]
    return f"this did not work ({type(error).__name__}, {reason}): run the cell again"


class SwapView(View):
    """Label swaps, with a pad to draw on where `about["pad"]` says so. Asked what `run_networks` answers."""

    _esm = bundle_scripts("tiles.js", "painter.js", "pictures.js", "pad.js", "swap.js")


class MapView(View):
    """A map of a latent space. Asked what `run_networks` answers."""

    _esm = bundle_scripts("tiles.js", "painter.js", "map.js")


class PhotoView(View):
    """A photograph and what networks see in it. Asked with each network's square, uint8 (3, S, S)."""

    _esm = bundle_scripts("tiles.js", "pictures.js", "photo.js")
