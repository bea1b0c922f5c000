"""Broken connections: which are worth another try, and what to say of them."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING

from orchestrator.engines.native.images.failures import RegistryUnreachable, TlsFailure

if TYPE_CHECKING:
    from orchestrator.errors import EngineError

_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EACCES, errno.EPERM)


def is_passing(error: BaseException) -> bool:
    """Whether trying again can help: not for a refused connection, an unknown name or an untrusted certificate."""
    if isinstance(error, OSError) and error.errno in _NO_WAY and not isinstance(error, ssl.SSLError):
        return False
    return not isinstance(error, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError) and not (
        isinstance(error, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(error)
    )


def explain_failure(error: BaseException, host: str, url: str) -> EngineError:
    """A connection's failure in words a person can act on."""
    allow = f'write [[registry]], location = "{host}" and insecure = true into ~/.config/stack/registries.conf'
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsFailure(
            f"the certificate of the registry {host} is not trusted: {error.verify_message or error.reason}",
            resource=host,
            operation="connect",
            hint=f"put its authority's certificate into /etc/docker/certs.d/{host}/ca.crt; to do without, {allow}",
        )
    if isinstance(error, ssl.SSLError):
        http_only = "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error)
        why = "it seems to speak plain HTTP" if http_only else error.reason or str(error)
        return TlsFailure(
            f"no TLS connection to the registry {host}: {why}",
            resource=host,
            operation="connect",
            hint=f"to allow that, {allow}" if http_only else "",
        )
    if isinstance(error, ConnectionRefusedError):
        why, hint = "connection refused", "is the registry running, and is the port right?"
    elif isinstance(error, socket.gaierror):
        why, hint = "its name cannot be resolved", "check the name, and this machine's DNS and proxy settings"
    elif isinstance(error, TimeoutError):
        why, hint = "it does not answer", "check the network, a firewall, or the proxy settings"
    elif isinstance(error, OSError) and error.errno in _NO_WAY and error.strerror:
        why, hint = error.strerror.lower(), "check this machine's network, routes and firewall"
    else:
        why, hint = str(error) or type(error).__name__, "check the network and try again"
    return RegistryUnreachable(
        f"the registry {host} cannot be reached: {why}", resource=url, operation="connect", hint=hint
    )
