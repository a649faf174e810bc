"""What the site adds to Sphinx: math from files beside the page, links to definitions, a policy against other hosts."""

import html
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

# Pages may ask their own host alone. Theme and formulas bring styles in the page, the playground's runtime WebAssembly.
POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
DEFINITIONS = "docs/definitions"
KATEX_FILES = ("katex/katex.min.js", "katex/auto-render.min.js")


def keep_within(app: Sphinx) -> None:
    """Has myst-nb keep the pictures of notebooks among the doctrees, not beside the folder of the pages."""
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=str(Path(app.doctreedir) / "pictures"))


def visit_math(self, node: nodes.math) -> None:
    """A formula in a line, as KaTeX's auto-render takes it."""
    self.body.append(f'<span class="math">\\({html.escape(node.astext())}\\)</span>')
    raise nodes.SkipNode


def visit_math_block(self, node: nodes.math_block) -> None:
    """A formula of its own."""
    self.body.append(f'<div class="math">\\[{html.escape(node.astext())}\\]</div>\n')
    raise nodes.SkipNode


def add_page_files(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """The security policy of every page, and KaTeX for those with formulas if it is there."""
    context["metatags"] = context.get("metatags", "") + (
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<link rel="icon" href="data:,">'
    )
    # What the theme and myst-nb leave to be said to those who hear a page: levels of headings, names that are seen too.
    for name, wrong, right in (
        ("furo_navigation_tree", 'role="heading"', 'role="heading" aria-level="2"'),
        ("body", ' aria-label="Toggle hidden content"', ""),
    ):
        if context.get(name):
            context[name] = context[name].replace(wrong, right)
    if doctree and app.config.s18_katex and any(doctree.findall(lambda node: isinstance(node, MATH))):
        app.add_css_file("katex/katex.min.css")
        for name in KATEX_FILES:
            app.add_js_file(name, loading_method="defer")


MATH = (nodes.math, nodes.math_block)
# Where a word is not to become a link.
NO_LINKS = (nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.raw, nodes.math, nodes.table)


def read_terms(document: nodes.document) -> dict[str, str]:
    """The terms that the page of definitions has, in lower case, with the id of each one's section.

    A term is a section's title; other forms of it stand in a comment below, `<!-- also: mIoU, mean IoU -->`.
    """
    terms = {}
    for section in document.findall(nodes.section):
        if isinstance(section.parent, nodes.document) or not section["ids"]:
            continue
        comments = [node.astext() for node in section.children if isinstance(node, nodes.comment | nodes.raw)]
        others = re.findall(r"also: (.*?)(?: *-->|$)", "\n".join(comments))
        names = [section[0].astext(), *(name for line in others for name in line.split(","))]
        terms |= {name.strip().lower(): section["ids"][0] for name in names}
    return terms


def link_terms(app: Sphinx, document: nodes.document, page: str) -> None:
    """Links each defined term to its definition where it first stands in a page's prose."""
    if page == DEFINITIONS or DEFINITIONS not in app.env.found_docs:
        return
    terms = read_terms(app.env.get_doctree(DEFINITIONS))
    if not terms:
        return
    address = app.builder.get_relative_uri(page, DEFINITIONS)
    words = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])({words})(?:s|es)?(?![\w-])", re.IGNORECASE)
    linked = set()
    for text in list(document.findall(nodes.Text)):
        if inside(text, NO_LINKS) or not inside(text, (nodes.paragraph,)):
            continue
        pieces, end = [], 0
        for match in pattern.finditer(text):
            target = terms[match[1].lower()]
            if target not in linked:
                linked.add(target)
                link = nodes.reference("", match[0], refuri=f"{address}#{target}", internal=True, classes=["term"])
                pieces += [nodes.Text(text[end : match.start()]), link]
                end = match.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(text[end:])])


def inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    """Whether a node stands in one of these kinds of nodes."""
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.add_config_value("s18_katex", False, "html")
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", keep_within, priority=900)  # after myst-nb's
    app.connect("html-page-context", add_page_files, priority=900)  # after the theme's
    app.connect("doctree-resolved", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
