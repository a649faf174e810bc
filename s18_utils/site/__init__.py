"""The static site: what the repository holds, to read and to play with in a browser, without a kernel."""
