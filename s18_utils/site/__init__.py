"""The static site: what the repository holds, to read and to play with in a browser, without a kernel."""

from s18_utils.site.build import build_site

__all__ = ["build_site"]
