"""Logins in addresses: taken out of what is kept on the disk, and hidden in what is shown. Pure."""

from __future__ import annotations

_LOGIN = r"([a-zA-Z][a-zA-Z0-9+.-]*)://(?:([^/?#\s]*)|([^/?#\s:@\[]*:(?!\d*(?:[/?#\s]|\Z))\S*))@"
"""A scheme and the user part of an address. One with a slash in its password is malformed, and a password all the same:
what follows the colon is no port."""

_HIDDEN = "xxxxx"
_TOKEN_LENGTH = 20
"""Characters; what services give out as tokens is longer, and the name of a user is shorter."""


def hide_password(text: str) -> str:
    """Return `text` with what may be secret in the user part of every address in it replaced by ``xxxxx``.

    On the web a token often stands where a user's name would: alone, or with a word behind it that means nothing.
    """
    if "@" not in text or "://" not in text:
        return text
    import re

    def hide(found: re.Match[str]) -> str:
        user, _, password = (found[2] or found[3] or "").partition(":")
        shown = f"{user}:{_HIDDEN}" if password else found[2] or ""
        if found[1].lower() in ("http", "https"):
            token = password in ("", "x-oauth-basic") or len(user) >= _TOKEN_LENGTH
            shown = _HIDDEN if token else shown
        return f"{found[1]}://{shown}@"

    return re.sub(_LOGIN, hide, text)


def take_login(url: str) -> tuple[str, str]:
    """Split ``https://LOGIN@host/path`` into the address without the login, and the login; empty where there is none.

    Only on the web: the user of an ssh address is no secret, and part of the address.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        return url, ""
    import re

    place = re.match(r"[^/?#]*", rest)
    login, at, host = place[0].rpartition("@") if place else ("", "", "")
    return (f"{scheme}://{host}{rest[len(login) + 1 + len(host) :]}", login) if at else (url, "")
