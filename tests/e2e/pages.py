"""Reading what containers serve."""

from __future__ import annotations

import time
import urllib.request


def fetch_page(url: str) -> str:
    """The page as it is served now. Raises OSError."""
    with urllib.request.urlopen(url, timeout=5) as page:
        return str(page.read().decode())


def await_page(url: str) -> str:
    """The page, once its server has got as far as listening."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return fetch_page(url)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
