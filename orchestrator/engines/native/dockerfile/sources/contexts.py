"""Build contexts: where COPY without --from takes its files from, and the additional ones that have names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.sources.failures import ContextError
from orchestrator.engines.native.dockerfile.sources.site import SourceRoot

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite
    from orchestrator.engines.native.dockerfile.sources.views import Rules
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.workspace import Workspace

DOCKERFILE = "Dockerfile"
IGNORE = ".dockerignore"
_TEXT_LIMIT = 16 << 20  # bytes of a Dockerfile or an ignore file
_IMAGE = "docker-image://"
_LAYOUT = "oci-layout://"


class Context:
    """An opened context. `root` is its directory, or None for an image or when a build has no files.

    `image` is a reference of an image, or (from a layout) its identifier in the store: such a context is a chain of
    layers, used like any other image. `dockerfile` is the text that came instead of a context.
    """

    def __init__(
        self,
        site: BuildSite,
        name: str,
        *,
        root: Path | None = None,
        local: bool = False,
        own: bool = False,
        identity: str = "",
        image: str = "",
        dockerfile: bytes | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.local = local
        self.image = image
        self.dockerfile = dockerfile
        self.ignore: Rules | None = None
        self.ignore_name = ""
        self._site = site
        self._own = own
        self._identity = identity

    @property
    def source(self) -> SourceRoot | None:
        """What COPY takes files from; None when there is no directory."""
        if self.root is None:
            return None
        return SourceRoot(
            self.root,
            name=self.name,
            own=self._own,
            ignore=self.ignore,
            ignore_name=self.ignore_name,
            identity=self._identity,
        )

    def digest(self, *patterns: str) -> str:
        """The content of what `patterns` (as COPY takes them) name, as hexadecimal digits. Raises CopyError."""
        from orchestrator.engines.native.dockerfile.front.steps import CopyStep
        from orchestrator.engines.native.dockerfile.performing.copying import plan_copy
        from orchestrator.source import Location

        step = CopyStep(
            location=Location(self.name, 1, 1),
            text="COPY",
            instruction="COPY",
            sources=patterns or (".",),
            destination="/",
            directory=True,
        )
        return plan_copy(step, self.source, self._site).digest

    def hide(self, text: bytes, name: str) -> None:
        """Leave out what an ignore file says."""
        from orchestrator.engines.native.dockerfile.sources.dockerignore import load_ignore

        self.ignore = load_ignore(text, name)
        self.ignore_name = name


def open_build_context(request: BuildRequest, site: BuildSite) -> Context:
    """Open what ``build.context`` means, with the ignore file that belongs to the Dockerfile. Raises ContextError."""
    if request.context is None:
        return Context(site, "the build context")
    context = open_context(request.context, site, stdin=request.stdin)
    if context.local:
        _load_ignore(context, request)
    return context


def open_named_context(
    name: str, source: str, site: BuildSite, *, platform: str | None = None, workspace: Workspace | None = None
) -> Context:
    """Open an additional context. `workspace` protects the image of an ``oci-layout://``. Raises ContextError."""
    shown = f"the context {name!r}"
    if source.startswith(_IMAGE):
        return Context(site, shown, image=source.removeprefix(_IMAGE))
    if source.startswith(_LAYOUT):
        from orchestrator.engines.native.dockerfile.sources.layouts import load_layout

        if site.store is None or workspace is None:
            raise ContextError(f"{shown} is an image, and there is no image store")
        found: Image = load_layout(
            source.removeprefix(_LAYOUT), site.store, workspace, platform=platform, cancel=site.cancel
        )
        return Context(site, shown, image=found.id)
    context = open_context(source, site, name=shown)
    if context.local and context.root is not None:
        text = _read_text(context.root / IGNORE)
        if text is not None:
            context.hide(text, IGNORE)
    return context


def open_context(
    source: str, site: BuildSite, *, stdin: bytes | None = None, name: str = "the build context"
) -> Context:
    """Open a directory, a git reference, the URL of a tar or a Dockerfile, or ``-`` with `stdin`; no ignore file.

    Raises ContextError; BuildError when a download fails.
    """
    if source == "-":
        if not stdin:
            raise ContextError("the context is standard input (-), and nothing came from there")
        return _open_bytes(stdin, site, name)
    if os.path.isabs(source):
        return _open_folder(source, site, name)
    # Neither is needed for a directory, the case that has to be quick.
    from orchestrator.engines.native.dockerfile.sources.git import check_out, parse_git_reference, resolve_commit
    from orchestrator.engines.native.dockerfile.sources.remote import download, is_url

    if (reference := parse_git_reference(source)) is not None:
        commit = resolve_commit(reference, site)
        tree = check_out(commit, site)
        said = (commit.commit, reference.subdir, reference.keep_git_dir, reference.submodules is not False)
        return Context(site, name, root=tree, identity=f"git {said!r}")
    if is_url(source):
        fetched = download(source, site)
        if _is_archive_file(fetched.path):
            return _open_archive(fetched.path, site, name, identity=f"tar {fetched.digest}")
        return Context(site, name, dockerfile=_read_text(fetched.path))
    return _open_folder(source, site, name)


def _open_folder(source: str, site: BuildSite, name: str) -> Context:
    root = Path(os.path.abspath(source.removeprefix("local:")))
    if not root.exists():
        from difflib import get_close_matches

        near = get_close_matches(root.name, _list_names(root.parent), n=1) if root.parent.is_dir() else []
        raise ContextError(
            f"{name} {root} does not exist",
            resource=str(root),
            hint=f"did you mean {root.parent / near[0]}?" if near else "",
        )
    if not root.is_dir():
        raise ContextError(
            f"{name} {root} is not a directory",
            resource=str(root),
            hint="the Dockerfile is named by 'dockerfile', the context is the directory with the files",
        )
    return Context(site, name, root=root.resolve(), local=True)


def _list_names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _open_bytes(data: bytes, site: BuildSite, name: str) -> Context:
    from hashlib import sha256

    path = site.workspace / f"stdin-{os.urandom(4).hex()}"
    path.write_bytes(data)
    if _is_archive_file(path):
        return _open_archive(path, site, name, identity=f"tar {sha256(data).hexdigest()}")
    return Context(site, name, dockerfile=data)


def _is_archive_file(path: Path) -> bool:
    from orchestrator.engines.native.dockerfile.sources.archives import is_archive_file

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return is_archive_file(descriptor)
    finally:
        os.close(descriptor)


def _open_archive(path: Path, site: BuildSite, name: str, *, identity: str) -> Context:
    """A tar as a context: its members keep their owners."""
    from orchestrator.engines.native.dockerfile.sources.archives import iterate_file
    from orchestrator.engines.native.images.failures import InvalidImage, UnsafeLayer
    from orchestrator.engines.native.images.unpack import unpack_layer

    folder = site.make_folder("context")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        unpack_layer(iterate_file(descriptor), folder, cancel=site.cancel)
    except (InvalidImage, UnsafeLayer) as error:
        message = error.message.replace("the layer's tar", "the tar").replace("the layer", "the tar")
        raise ContextError(f"{name} cannot be unpacked: {message}", code=error.code) from error
    finally:
        os.close(descriptor)
    return Context(site, name, root=folder, own=True, identity=identity)


# -- the Dockerfile and its ignore file ------------------------------------------------------------------------------


def _load_ignore(context: Context, request: BuildRequest) -> None:
    """``<Dockerfile>.dockerignore`` beside the Dockerfile wins over ``.dockerignore`` in the context."""
    assert context.root is not None
    places = [context.root / IGNORE]
    if request.inline is None:
        beside = _place_dockerfile(request, context.root)
        places.insert(0, beside.with_name(f"{beside.name}{IGNORE}"))
    for place in places:
        text = _read_text(place)
        if text is not None:
            context.hide(text, place.name if place.parent == context.root else _show(place))
            return


def _place_dockerfile(request: BuildRequest, root: Path) -> Path:
    return Path(os.path.normpath(root / (request.dockerfile or DOCKERFILE)))


def read_dockerfile(request: BuildRequest, context: Context) -> tuple[bytes, str]:
    """The Dockerfile's bytes, and its name as people are shown it. Raises ContextError with the nearest names.

    An inline Dockerfile comes first, then the text that came as the context, then the file: ``dockerfile`` below the
    context (a local one may also lie elsewhere), by default ``Dockerfile``, or ``dockerfile`` if only that is there.
    """
    if request.inline is not None:
        return request.inline.encode("utf-8", "surrogateescape"), "dockerfile_inline"
    if context.dockerfile is not None:
        from orchestrator.addresses import hide_password

        return context.dockerfile, "<stdin>" if request.context == "-" else hide_password(request.context or DOCKERFILE)
    if context.root is None:
        raise ContextError("the build has neither a context nor an inline Dockerfile")
    name = request.dockerfile or DOCKERFILE
    names = [name]
    if os.path.basename(name) == DOCKERFILE:
        names.append(name[: -len(DOCKERFILE)] + DOCKERFILE.lower())
    for one in names:
        path = _find_dockerfile(context, one)
        text = _read_text(path) if path is not None else None
        if text is not None and path is not None:
            return text, _show(path) if context.local else one
    raise _explain_missing(Path(os.path.normpath(context.root / name)), name, context)


def _find_dockerfile(context: Context, name: str) -> Path | None:
    """Where a Dockerfile would be. In somebody else's tree no link leads out; in one's own it may lie anywhere."""
    from orchestrator.engines.native.dockerfile.sources.views import resolve_in_root

    assert context.root is not None
    if context.local:
        return Path(os.path.normpath(context.root / name))
    try:
        return context.root / resolve_in_root(str(context.root), name)
    except OSError:
        return None


def _show(path: Path) -> str:
    here = os.path.relpath(path)
    # A supervisor stands in the root directory, and nobody knows a project by its way from there.
    return str(path) if here.startswith("..") or os.getcwd() == "/" else here


def _read_text(path: Path) -> bytes | None:
    """A file's content; None if there is none. Raises ContextError for what cannot be a text."""
    try:
        with path.open("rb") as file:
            data = file.read(_TEXT_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ContextError(f"{path} cannot be read: {error.strerror}", resource=str(path)) from error
    if len(data) > _TEXT_LIMIT:
        raise ContextError(f"{path} is larger than {_TEXT_LIMIT >> 20} MiB", resource=str(path))
    return data


def _explain_missing(path: Path, name: str, context: Context) -> ContextError:
    assert context.root is not None
    names = _list_names(path.parent if context.local else context.root)
    wanted = path.name.casefold()
    likely = [one for one in names if "dockerfile" in one.casefold() or "containerfile" in one.casefold()]
    likely = [one for one in likely if not one.endswith(IGNORE) and one != name]  # itself: a link that leads nowhere
    from difflib import get_close_matches

    near = get_close_matches(wanted, [one.casefold() for one in likely], n=1, cutoff=0.5)
    found = next((one for one in likely if near and one.casefold() == near[0]), likely[0] if likely else "")
    where = f" in {context.root}" if context.local and not os.path.isabs(name) else ""
    return ContextError(
        f"there is no Dockerfile {name!r}{where}" if name != DOCKERFILE else f"there is no Dockerfile{where}",
        resource=str(path),
        code="dockerfile-missing",
        hint=f"there is {found}: name it with -f, or with 'dockerfile' in a stack file" if found else "",
    )
