"""Renders a folder of Markdown pages and notebooks by Sphinx, executing nothing."""

import io
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import docutils_namespace, patch_docutils

from s18_utils.errors import InputError
from s18_utils.records import REPOSITORY
from s18_utils.report.progress import display_message
from s18_utils.site.npm import fetch_package

HERE = Path(__file__).resolve().parent
KATEX = "katex@0.19.1"
KATEX_FILES = ("dist/katex.min.js", "dist/contrib/auto-render.min.js", "dist/katex.min.css", "dist/fonts/*.woff2")
COLOURS = {"color-brand-primary": "#005a9c", "color-brand-content": "#005a9c", "color-brand-visited": "#005a9c"}
NIGHT_COLOURS = {"color-brand-primary": "#79b8f3", "color-brand-content": "#79b8f3", "color-brand-visited": "#79b8f3"}
FONTS = {"font-stack": "system-ui, sans-serif", "font-stack--monospace": "ui-monospace, monospace"}
CONFIG = {
    "project": "S18",
    "html_title": "S18",
    "language": "en",
    "extensions": ["myst_nb", "sphinx_copybutton", "s18_utils.site.extension"],
    "myst_enable_extensions": ["dollarmath", "amsmath", "attrs_inline", "colon_fence", "deflist"],
    "myst_heading_anchors": 4,
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_code_prompt_show": "Show the {type}",
    "nb_code_prompt_hide": "Hide the {type}",
    "html_theme": "furo",
    "html_math_renderer": "katex",
    "html_static_path": [str(HERE / "static")],
    "html_css_files": ["style.css"],
    "html_js_files": [("page.js", {"defer": "defer"})],
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_use_index": False,
    "html_domain_indices": False,
    "pygments_style": "a11y-high-contrast-light",
    "copybutton_exclude": ".linenos, .gp, .go",
    "html_theme_options": {
        "light_css_variables": COLOURS | FONTS,
        "dark_css_variables": NIGHT_COLOURS,
        "source_repository": REPOSITORY,
    },
}

# What Sphinx writes beside the pages, and an index that is one of them.
RENDERED = (
    "index.html",
    "search.html",
    "searchindex.js",
    "objects.inv",
    ".buildinfo",
    "_static",
    "_images",
    "_sources",
)


def render_pages(
    sources: Path, out: Path, served: Sequence[str] = (), kept: Path | None = None, katex: Path | None = None
) -> list[str]:
    """Renders a folder of pages.

    Args:
        sources: the folder, with an `index.md`.
        out: where to; files that are there and are no pages' stay.
        served: names in `sources` that go into `out` as they are.
        kept: a folder for what need not be made again for pages that have not changed; by default nothing is kept.
        katex: as of `find_katex`.

    Returns:
        Sphinx's warnings, among them every link and anchor that leads nowhere.

    Raises:
        InputError: pages that Sphinx can't render.
    """
    warnings = io.StringIO()
    doctrees = kept or out / ".doctrees"
    # What is served as it is, and what other pages are made of, is no page.
    settings = CONFIG | {"exclude_patterns": [f"{name}/**" for name in served], "s18_katex": katex is not None}
    try:
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                sources, None, out, doctrees, "html", settings, status=None, warning=warnings, freshenv=kept is None
            )
            app.build()
    except SphinxError as error:
        raise InputError(f"Sphinx can't render the pages ({error}): see the page that it names") from error
    if kept is None:
        shutil.rmtree(doctrees, ignore_errors=True)
    for name in ("objects.inv", ".buildinfo"):
        (out / name).unlink(missing_ok=True)
    for name in served:
        shutil.copytree(sources / name, out / name)
    if katex:
        copy_katex(katex, out / "_static" / "katex")
    lines = re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue()).replace(f"{sources}{os.sep}", "").splitlines()
    return [line for line in lines if line.strip()]


def find_katex() -> Path | None:
    """The folder of KaTeX's files, or None, with a message, where npm can't bring them."""
    try:
        return fetch_package(KATEX, KATEX_FILES)
    except InputError as error:
        display_message(f"Formulas are shown as their source: {error}", warning=True)
        return None


def copy_katex(katex: Path, folder: Path) -> None:
    """Copies what a page with formulas asks for; of the fonts the one format that every browser takes."""
    shutil.copytree(katex / "dist" / "fonts", folder / "fonts", dirs_exist_ok=True)
    for name in KATEX_FILES[:3]:
        shutil.copy(katex / name, folder)
