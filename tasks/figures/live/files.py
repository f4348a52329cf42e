"""The files that a page is made of, and the digests by which a server lets its scripts run and no others."""

import base64
import functools
import hashlib
import importlib.resources

SCRIPTS = ("plot.min.js", "live.js")
"""In the page in this order."""


@functools.cache
def content(name: str) -> str:
    """The text of a file."""
    return importlib.resources.files("specdyn.tasks.figures.live").joinpath(name).read_text(encoding="utf-8")


def script_source() -> str:
    """The value of `script-src` in a Content-Security-Policy that allows these scripts alone."""
    digests = (hashlib.sha256(content(name).encode()).digest() for name in SCRIPTS)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
