"""The two ways in: HTTP Basic (RFC 7617) and the distribution's Bearer tokens, fetched where the challenge says."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from orchestrator.engines.native.images.credentials import Credential, find_credential
from orchestrator.engines.native.images.failures import RegistryFault, Unauthorized
from orchestrator.engines.native.images.manifest import parse_object

if TYPE_CHECKING:
    from orchestrator.engines.native.images.transport import Transport

_TOKEN_LIMIT = 1 << 20
_DEFAULT_LIFE = 60.0  # seconds, if the server does not say


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate challenge."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Parse a WWW-Authenticate header (RFC 9110), several challenges and quoted strings included."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(header):
        if header[position] in " ,\t":
            position += 1
            continue
        start = position
        while position < len(header) and header[position] not in ' ,=\t"':
            position += 1
        word = header[start:position]
        if position < len(header) and header[position] == "=" and found:
            value, position = _read_value(header, position + 1)
            found[-1][1][word.lower()] = value
        elif word:
            found.append((word.lower(), {}))
        else:
            position += 1
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def _read_value(header: str, position: int) -> tuple[str, int]:
    if header[position : position + 1] != '"':
        end = position
        while end < len(header) and header[end] not in " ,\t":
            end += 1
        return header[position:end], end
    value, position = "", position + 1
    while position < len(header) and header[position] != '"':
        position += header[position] == "\\"
        value += header[position : position + 1]
        position += 1
    return value, position + 1


class Authorizer:
    """Authorization headers for one registry host and repository; shared by all threads of a transfer."""

    def __init__(
        self,
        transport: Transport,
        host: str,
        repository: str,
        actions: str,
        *,
        plain: bool,
        also_pull: Sequence[str] = (),
        credential: Credential | None = None,
    ) -> None:
        self._transport = transport
        self._host = host
        self._repository = repository
        self._scopes = {f"repository:{repository}:{actions}"} if repository else set()
        self._scopes |= {f"repository:{one}:pull" for one in also_pull}
        self._plain = plain
        self._lock = Lock()
        self._header = self._accepted = ""
        self._expires = float("inf")
        self._challenge: Challenge | None = None
        self._credential = credential
        self._asked = credential is not None  # otherwise it is looked up when the registry asks for one

    def header(self) -> dict[str, str]:
        """What to send now; empty while nobody asked."""
        with self._lock:
            if self._challenge is not None and time.monotonic() > self._expires:
                self._authorize(self._challenge)
            return {"Authorization": self._header} if self._header else {}

    def answer(self, header: str, sent: Mapping[str, str]) -> None:
        """React to a 401. Raises Unauthorized if there is nothing (more) to try."""
        with self._lock:
            if self._header and sent.get("Authorization") != self._header:
                return  # another thread has renewed it meanwhile
            challenges = {one.scheme: one for one in parse_challenges(header)}
            challenge = challenges.get("bearer") or challenges.get("basic")
            repeated = self._challenge is not None and bool(sent.get("Authorization"))
            # A token that was good may run out sooner than was said, or be withdrawn.
            renewable = time.monotonic() > self._expires or self._accepted == self._header
            if challenge is None or (repeated and (challenge.scheme == "basic" or not renewable)):
                raise self.refuse()
            self._challenge = challenge
            self._authorize(challenge)

    def note_accepted(self, sent: Mapping[str, str]) -> None:
        """The registry took what was sent."""
        self._accepted = sent.get("Authorization", "")

    def refuse(self) -> Unauthorized:
        """The error for a final refusal."""
        known = self._credential is not None
        return Unauthorized(
            f"the registry {self._host} refuses access to {self._repository}"
            + (" with the stored credentials" if known else ""),
            resource=f"{self._host}/{self._repository}",
            operation="authorize",
            hint=(
                "the repository may not exist, or the stored login is wrong or has no right to it"
                if known
                else "the repository may not exist, or needs a login: 'stack image login "
                f"{self._host}' stores one; those of docker and podman count, too"
            ),
        )

    def _authorize(self, challenge: Challenge) -> None:
        if not self._asked:
            self._credential, self._asked = find_credential(self._host, self._repository), True
        credential = self._credential
        if credential is not None and credential.registry_token:
            self._header = f"Bearer {credential.registry_token}"
        elif challenge.scheme == "basic":
            if credential is None or not credential.username:
                raise self.refuse()
            self._header = render_basic(credential)
        else:
            self._header = "Bearer " + self._fetch_token(challenge, credential)

    def _fetch_token(self, challenge: Challenge, credential: Credential | None) -> str:
        realm = challenge.parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RegistryFault(
                f"the registry {self._host} names no valid token server: {realm!r}", resource=self._host
            )
        asked = {challenge.parameters.get("scope", "")} - {""}
        query = [("scope", scope) for scope in sorted(self._scopes | asked)]
        if service := challenge.parameters.get("service"):
            query.insert(0, ("service", service))
        plain = self._plain and parts.scheme == "https"
        headers: dict[str, str] = {}
        if credential is not None and credential.identity_token:
            form = [("grant_type", "refresh_token"), ("refresh_token", credential.identity_token)]
            form += [("client_id", "stack"), *query]
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            response = self._transport.request(
                "POST", realm, headers=headers, body=urlencode(form).encode(), plain=plain
            )
        else:
            if credential is not None and credential.username:
                headers["Authorization"] = render_basic(credential)
                query.append(("account", credential.username))
            joint = "&" if parts.query else "?"
            response = self._transport.request("GET", f"{realm}{joint}{urlencode(query)}", headers=headers, plain=plain)
        data = response.read(_TOKEN_LIMIT)
        if response.status in (400, 401, 403, 404):
            raise self.refuse()
        if response.status != 200:
            raise RegistryFault(f"the token server {parts.netloc} answers {response.status}", resource=realm)
        raw = parse_object(data, "token")
        token = raw.get("token") or raw.get("access_token")
        if not isinstance(token, str) or not token or any(char in token for char in "\r\n"):
            raise RegistryFault(f"the token server {parts.netloc} gave no token", resource=realm)
        life = raw.get("expires_in")
        seconds = float(life) if isinstance(life, int) and life > 0 else _DEFAULT_LIFE
        self._expires = time.monotonic() + seconds * 0.9
        return token


def render_basic(credential: Credential) -> str:
    """The value of an Authorization header."""
    text = f"{credential.username}:{credential.password}".encode()
    return "Basic " + base64.b64encode(text).decode()
