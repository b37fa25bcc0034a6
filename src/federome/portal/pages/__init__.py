"""One module for a group of pages: each has ``pages(site, ...) -> Face``."""
