"""The playground's page: the body that `play.page` brings, as a page of the site."""

from pathlib import Path

from s18_utils.play.page import BODY, FOLDERS, write_players

__all__ = ["FOLDERS", "write_playground"]


def write_playground(site_folder: Path) -> list[str]:
    """Writes `playground.md` and what it needs into a folder of pages; see `write_players` for the rest."""
    names = write_players(site_folder)
    if names:
        page = "# Playground\n\n" + BODY.read_text(encoding="utf-8")
        (site_folder / "playground.md").write_text(page, encoding="utf-8")
    return names
