"""What can go wrong between a reference and an unpacked image; each with its own code, message and way out."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import Conflict, EngineError, NotFound, StackError, Unavailable, Unsupported


class InvalidReference(StackError):
    """The text is not an image reference."""

    code = "invalid-image-reference"


class InvalidChange(StackError):
    """A ``--change`` instruction cannot be understood."""

    code = "invalid-change"


class ImageMissing(NotFound):
    """No such image, in the store or in the registry."""

    code = "image-not-found"

    @classmethod
    def among(cls, name: str, known: Sequence[str]) -> ImageMissing:
        """What to say of `name` where the images `known` are there."""
        from difflib import get_close_matches

        near = get_close_matches(name, known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "'stack image ls' lists what there is"
        return cls(f"No such image: {name}", resource=name, operation="find image", hint=hint)


class AmbiguousImage(Conflict):
    """A short identifier matches several images."""

    code = "ambiguous-image"


class ImageInUse(Conflict):
    """A container uses the image, or several references name it."""

    code = "image-in-use"


class UnsupportedImage(Unsupported):
    """The manifest, the layer format or the platform is one that cannot be run."""

    code = "unsupported-image"


class InvalidImage(EngineError):
    """The content is broken: malformed manifest, corrupt layer, digest that does not match."""

    code = "invalid-image"


class UnsafeLayer(EngineError):
    """A layer tries to write outside its directory, or to fill the disk."""

    code = "unsafe-layer"


class DiskFull(Unavailable):
    """No space is left for the image."""

    code = "disk-full"


class Unauthorized(Unavailable):
    """The registry refuses: no credentials, wrong credentials, or no right to this repository."""

    code = "registry-unauthorized"


class RateLimited(Unavailable):
    """The registry asks to wait longer than a pull is prepared to."""

    code = "registry-rate-limited"


class RegistryUnreachable(Unavailable):
    """Name resolution, connection or transfer failed."""

    code = "registry-unreachable"


class RegistryFault(Unavailable):
    """The registry answered with an error of its own, again and again; `final` when trying again cannot help."""

    code = "registry-fault"
    final = False


class TlsFailure(Unavailable):
    """The registry's certificate is not trusted, or the other side does not speak TLS."""

    code = "registry-tls"


class CredentialFailure(Unavailable):
    """A credential file cannot be read or a credential helper failed."""

    code = "registry-credentials"


class TransferCancelled(EngineError):
    """The caller asked to stop."""

    code = "cancelled"
