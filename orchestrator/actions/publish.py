"""``publish``: the stack files, and what they extend, as an OCI artifact in a registry."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from orchestrator.actions.remote_files import (
    ARTIFACT_TYPE,
    CONFIG_TYPE,
    ENV_NOTE,
    ENV_TYPE,
    EXTENDS_NOTE,
    FILE_NOTE,
    FILE_TYPE,
)
from orchestrator.errors import CannotRun, Diagnostic, Interrupted, UsageError
from orchestrator.record import Record
from orchestrator.source import render_path

if TYPE_CHECKING:
    from orchestrator.actions.project import Project, ProjectOptions
    from orchestrator.engines.native.images.artifacts import Part
    from orchestrator.model import Stack
    from orchestrator.source import Path

VERSION_NOTE: Final = "com.docker.compose.version"
CREATED_NOTE: Final = "org.opencontainers.image.created"

_SECRETS: Final = (
    ("private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("AWS access key", re.compile(r"\b(?:A3T[0-9A-Z]|AKIA|AGPA|AIDA|AIPA|ANPA|ANVA|AROA|ASIA)[0-9A-Z]{16}\b")),
    ("AWS secret key", re.compile(r"(?i)aws.{0,20}['\"][0-9a-z/+]{40}['\"]")),
    ("GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})")),
    ("GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("JSON Web Token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+")),
    ("password in a URL", re.compile(r"://[^/\s:@]+:(?!\$)[^/\s:@]+@")),
    (
        "password",
        re.compile(
            r"(?i)[A-Za-z0-9_.-]*(?:password|passwd|secret|token|api_?key|credential)[A-Za-z0-9_]*[\"']?\s*[:=]\s*"
            r"[\"']?(?![\s\"'$/.\[{|>&*]|true\b|false\b|null\b)[^\s\"',}\]]{4,}"
        ),
    ),
)


_SECRET_KEY: Final = re.compile(r"(?i)passw|secret|token|api_?key|credential|private_?key|access_?key|auth|_pwd$|^pwd$")


class PublishRefused(UsageError):
    """What would be published says more than its author may want."""

    code = "publish-refused"


class PublishDeclined(Interrupted):
    """The author has said no."""

    code = "publish-declined"


class Publication(Record):
    """What is going to be published. `files` are (name, text, whether it is only extended), `envs` (name, content).

    `questions` have to be answered with yes before.
    """

    stack: Stack
    files: tuple[tuple[str, str, bool], ...]
    envs: tuple[tuple[str, bytes], ...] = ()
    questions: tuple[str, ...] = ()
    digests: str = ""


def prepare_publication(
    options: ProjectOptions, *, with_env: bool, resolve_digests: bool, agree: Callable[[Project], None]
) -> Publication:
    """Read the files and look at what they give away; `agree` is asked before anything is done with them.

    Raises CannotRun for what cannot be run elsewhere (services that are only built, local includes), PublishRefused
    for what has no file, and what loading raises. `with_env` is consent to variables and env files.
    """
    from orchestrator.actions.project import load_project

    project = load_project(options.replace(profiles=("*",)))
    agree(project)
    stack = project.stack
    assert stack is not None
    files = _Files(stack)
    _check_portable(stack, files)
    main, extended, envs = files.rewrite()
    return Publication(
        stack=stack,
        files=tuple(main + extended),
        envs=tuple(envs),
        questions=tuple(_list_questions(stack, files, with_env=with_env)),
        digests=_render_digests(stack) if resolve_digests else "",
    )


def send_publication(
    publication: Publication, target: str, *, insecure: bool, version: str, app: bool, created: str
) -> str:
    """Send it to `target` (``REPOSITORY[:TAG]``); return its digest. `created` is RFC 3339.

    `app` copies the images that services name into the repository, too. Raises as a push does.
    """
    from orchestrator.actions.images import open_image_store
    from orchestrator.actions.lock_file import iterate_uses
    from orchestrator.engines.native.images.artifacts import ArtifactKind, ArtifactPush

    kind = ArtifactKind(ARTIFACT_TYPE, CONFIG_TYPE)
    notes = {VERSION_NOTE: _read_version()}
    with ArtifactPush(open_image_store().load_settings(), target, insecure=insecure) as push:
        sent = push.send(kind, list(_list_parts(publication)), {CREATED_NOTE: created}, version=version)
        if app:
            references = dict.fromkeys(one.reference for one in iterate_uses(publication.stack))
            push.send_index(kind, [push.copy_image(one) for one in references], sent, notes)
    return str(sent["digest"])


def _list_parts(publication: Publication) -> Iterator[Part]:
    from orchestrator.engines.native.images.artifacts import Part

    notes = {VERSION_NOTE: _read_version()}
    for name, text, extended in publication.files:
        mark = {EXTENDS_NOTE: "true"} if extended else {}
        yield Part(FILE_TYPE, text.encode(), {**notes, FILE_NOTE: name, **mark})
    for name, data in publication.envs:
        yield Part(ENV_TYPE, data, {**notes, ENV_NOTE: name})
    if publication.digests:
        yield Part(FILE_TYPE, publication.digests.encode(), {**notes, FILE_NOTE: "image-digests.yaml"})


def _read_version() -> str:
    from orchestrator import __version__

    return __version__


class _Files:
    """The stack files of a project as they were written: which are whole stacks, which are only extended."""

    def __init__(self, stack: Stack) -> None:
        from orchestrator.spec.positions import Problems
        from orchestrator.spec.yaml import parse_documents

        self.stack = stack
        self.texts: dict[str, str] = {}
        self._edits: dict[str, dict[tuple[int, int], str]] = {}
        self.extended: dict[str, str] = {}
        self.envs: dict[str, str] = {}
        self.includes: list[tuple[str, Any]] = []
        self.env_services: set[str] = set()
        """Services that name env files."""
        self.literals: dict[str, set[str]] = {}
        """By service, the variables that look like secrets and have a value that is no variable."""
        for file in stack.files:
            if file == "-":
                raise PublishRefused("what comes from standard input cannot be published", hint="write it to a file")
            with open(file, encoding="utf-8-sig") as opened:
                self.texts[file] = opened.read()
            problems = Problems()
            index = problems.register_file(file)
            for tree, _mark in parse_documents(self.texts[file], index, problems):
                self._read(file, tree, problems)

    @property
    def main(self) -> list[str]:
        """The files that are stacks by themselves, in the order in which they are merged."""
        first = self.stack.files[0]
        return [one for one in self.texts if one == first or one not in self.extended]

    def _read(self, file: str, tree: Any, problems: Any) -> None:
        from orchestrator.spec.positions import Map

        if type(tree) is not Map:
            return
        for one in tree.get("include") or ():
            paths = one.get("path") if type(one) is Map else one
            for path in [paths] if isinstance(paths, str) else paths or ():
                self.includes.append((str(path), problems.locate(tree.marks["include"][0])))
        services = tree.get("services")
        for name, service in services.items() if type(services) is Map else ():
            if type(service) is not Map:
                continue
            if service.get("env_file"):
                self.env_services.add(str(name))
            for key, value in _list_environment(service.get("environment")):
                if value and "$" not in value and is_secret_name(key):
                    self.literals.setdefault(str(name), set()).add(key)
            extends = service.get("extends")
            if type(extends) is Map and isinstance(extends.get("file"), str):
                self._replace(file, extends["file"], problems.locate(extends.marks["file"][1]), self.extended, ".yaml")
            self._read_env_files(file, service, problems)

    def _read_env_files(self, file: str, service: Any, problems: Any) -> None:
        from orchestrator.spec.positions import Map

        listed = service.get("env_file")
        if isinstance(listed, str):
            self._replace(file, listed, problems.locate(service.marks["env_file"][1]), self.envs, ".env")
            return
        for index, one in enumerate(listed or ()):
            mark = listed.marks[index]
            if type(one) is Map and isinstance(one.get("path"), str):
                one, mark = one["path"], one.marks["path"][1]
            if isinstance(one, str):
                self._replace(file, one, problems.locate(mark), self.envs, ".env")

    def _replace(self, file: str, path: str, place: Any, names: dict[str, str], ending: str) -> None:
        """Let `file` name a part of the artifact where it names a local file."""
        full = os.path.normpath(os.path.join(os.path.dirname(file), os.path.expanduser(path)))
        if place is None or not os.path.exists(full):
            return  # remote, or not required and not there
        name = names.setdefault(full, hashlib.sha256(full.encode()).hexdigest() + ending)
        self._edits.setdefault(file, {})[place.line, place.column] = name

    def rewrite(self) -> tuple[list[tuple[str, str, bool]], list[tuple[str, str, bool]], list[tuple[str, bytes]]]:
        """Stacks, what they extend, and env files, each with the name that the others call it by."""
        main = [(os.path.basename(one), self._edit(one), False) for one in self.main]
        extended = [(name, self._edit(one), True) for one, name in self.extended.items() if one in self.texts]
        envs = []
        for path, name in self.envs.items():
            with open(path, "rb") as file:
                envs.append((name, file.read()))
        return main, extended, envs

    def _edit(self, file: str) -> str:
        lines = self.texts[file].split("\n")
        for (line, column), name in sorted(self._edits.get(file, {}).items(), reverse=True):
            text = lines[line - 1]
            lines[line - 1] = text[: column - 1] + name + text[find_scalar_end(text, column - 1) :]
        return "\n".join(lines)


def is_secret_name(name: str) -> bool:
    """Whether a variable is called as secrets are. Pure."""
    return _SECRET_KEY.search(name) is not None


def _list_environment(written: Any) -> Iterator[tuple[str, str]]:
    """The variables of a service as its file has them, as a map or as a list of ``NAME=VALUE``."""
    from orchestrator.spec.positions import Map

    if type(written) is Map:
        yield from ((str(key), "" if value is None else str(value)) for key, value in written.items())
    elif isinstance(written, list):
        for one in written:
            key, _, value = str(one).partition("=")
            yield key, value


def find_scalar_end(line: str, start: int) -> int:
    """Where a scalar of one line that begins at `start` ends: quoted, or plain up to a comment or the end of a flow."""
    if line[start : start + 1] in ("'", '"'):
        quote, at = line[start], start + 1
        while at < len(line):
            if line[at] == "\\" and quote == '"':
                at += 2
                continue
            if line[at] == quote:
                if quote == "'" and line[at + 1 : at + 2] == "'":
                    at += 2
                    continue
                return at + 1
            at += 1
        return len(line)
    found = re.search(r"\s+#|\s*[,}\]]|\s*$", line[start:])
    return start + found.start() if found else len(line)


def _check_portable(stack: Stack, files: _Files) -> None:
    from orchestrator.spec.paths import is_remote

    way = "publish it, too, and include it from there"
    built = [name for name, one in sorted(stack.services.items()) if one.build is not None and not one.image]
    problems = []
    if built:
        message = "your Compose stack cannot be published as it only contains a build section for service(s): "
        problems.append(
            _locate(stack, ("services", built[0], "build"), "only-built", message + ", ".join(built))._replace(
                hint="give each an image, and push that: nobody else has what it is built from"
            )
        )
    problems += [
        Diagnostic("local-include", f"cannot publish compose file with local includes: {path}", place, "include", way)
        for path, place in files.includes
        if not is_remote(path)
    ]
    if problems:
        raise CannotRun(problems)


def _list_questions(stack: Stack, files: _Files, *, with_env: bool) -> Iterator[str]:
    binds = [
        f"{name}: {one.source}:{one.target}"
        for name, service in sorted(stack.services.items())
        for one in service.volumes
        if one.type == "bind"
    ]
    if binds:
        yield "\n".join(
            (
                "you are about to publish bind mounts declaration within your OCI artifact.",
                "(what is written in the stack file, not what is in the folders)",
                *binds,
                "Are you ok to publish these bind mount declarations?",
            )
        )
    found = [] if with_env else list(_list_variables(files))
    if found:
        yield "\n".join(
            (
                "you are about to publish env-related declarations within your OCI artifact.",
                *found,
                "Use --with-env to silence this prompt. Values that are variables themselves stay variables.",
                "Are you ok to publish these env declarations?",
            )
        )
    secrets = sorted(set(_find_secrets(_list_texts(stack, files))))
    if secrets:
        yield "\n".join(
            (
                "you are about to publish sensitive data within your OCI artifact.",
                "please double check that you are not leaking sensitive data",
                *secrets,
                "Are you ok to publish these sensitive data?",
            )
        )


def _list_variables(files: _Files) -> Iterator[str]:
    """What services would give away: files of variables, and values that stand where a secret usually does."""
    for name in sorted(files.env_services | files.literals.keys()):
        if name in files.env_services:
            yield f'  service "{name}": env_file declared'
        keys = sorted(files.literals.get(name, ()))
        if keys:
            yield f'  service "{name}": literal value for ' + ", ".join(f'"{one}"' for one in keys)


def _list_texts(stack: Stack, files: _Files) -> Iterator[tuple[str, str]]:
    yield from files.texts.items()
    used = [one.file for one in (*stack.secrets.values(), *stack.configs.values()) if one.file]
    for path in (*files.envs, *used):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                yield path, file.read(1 << 20)
        except OSError:
            continue


def _find_secrets(texts: Iterator[tuple[str, str]]) -> Iterator[str]:
    for path, text in texts:
        for number, line in enumerate(text.splitlines(), 1):
            kind = find_secret(line)
            if kind:
                yield f"{path}:{number}: {kind}"


def find_secret(line: str) -> str:
    """What kind of secret a line seems to hold; empty for none. Pure."""
    if line.lstrip().startswith("#"):
        return ""
    return next((kind for kind, pattern in _SECRETS if pattern.search(line)), "")


def _render_digests(stack: Stack) -> str:
    from orchestrator.actions.config import keep_images, pin_images, restrict_tree
    from orchestrator.spec.render import render_yaml

    return render_yaml(keep_images(pin_images(restrict_tree(stack, ()), stack)))


def _locate(stack: Stack, path: Path, code: str, message: str) -> Diagnostic:
    return Diagnostic(code, message, stack.sources.locate(path), render_path(path))
