"""What is hidden of addresses, and what git is not given with them."""

from __future__ import annotations

import pytest

from orchestrator.addresses import hide_password, take_login


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://t0ken@host/a.git", "https://xxxxx@host/a.git"),
        ("https://t0ken:@host/a.git", "https://xxxxx@host/a.git"),
        ("https://t0ken:x-oauth-basic@host/a.git", "https://xxxxx@host/a.git"),
        ("https://glpat-0123456789abcdefghij:x@host/a.git", "https://xxxxx@host/a.git"),
        ("https://me:secret@host/a.git#main", "https://me:xxxxx@host/a.git#main"),
        ("https://me:se@cret@host/a", "https://me:xxxxx@host/a"),
        ("https://me:se/cret@host/a", "https://me:xxxxx@host/a"),
        ("https://me:secret@[broken/a", "https://me:xxxxx@[broken/a"),
        ("fatal: 'https://t0ken@host/': see ssh://x:y@z", "fatal: 'https://xxxxx@host/': see ssh://x:xxxxx@z"),
        ("postgres://:secret@db/x", "postgres://:xxxxx@db/x"),
    ],
)
def test_what_may_be_secret_is_hidden(text: str, shown: str) -> None:
    assert hide_password(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("ssh://git@host/a.git", "git@host:a.git", "https://host:8080/a@v1", "http://[::1]:80/a@b", "mail@host"),
        *("oci://host/name@sha256:0", "https://host/a?q=b@c", ""),
    ],
)
def test_everything_else_is_shown(text: str) -> None:
    assert hide_password(text) == text


def test_a_login_is_taken_out_of_an_address() -> None:
    assert take_login("https://me:se@cret@host:8/a.git#b") == ("https://host:8/a.git#b", "me:se@cret")
    for url in ("https://host/a@b", "ssh://git@host/a", "git@host:a", "file:///a@b"):
        assert take_login(url) == (url, "")
