"""Where a build takes its files from, and which Dockerfile and ignore file belong to it."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.engines.native.dockerfile.request import BuildRequest
from orchestrator.engines.native.dockerfile.sources.contexts import (
    Context,
    open_build_context,
    open_context,
    open_named_context,
    read_dockerfile,
)
from orchestrator.engines.native.dockerfile.sources.git import parse_git_reference
from orchestrator.engines.native.dockerfile.sources.layouts import split_layout
from orchestrator.engines.native.dockerfile.sources.site import BuildSite
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout
from orchestrator.errors import StackError

from .places import make_tar, make_tree
from .repositories import make_repository
from .web import Web


@pytest.fixture
def site(tmp_path: Path) -> BuildSite:
    (tmp_path / "work").mkdir()
    return BuildSite(tmp_path / "work", tmp_path / "cache")


def visible(context: Context) -> set[str]:
    """What COPY . would bring, by name."""
    from orchestrator.engines.native.dockerfile.sources.views import View

    assert context.root is not None
    view = View(context.root, rules=context.ignore)
    found: set[str] = set()
    pending = [""]
    while pending:
        path = pending.pop()
        for entry in view.scan(path):
            name = f"{path}/{entry.name}" if path else entry.name
            found.add(name)
            if entry.is_dir(follow_symlinks=False):
                pending.append(name)
    return found


def test_a_folder(site: BuildSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_tree(tmp_path / "ctx", "Dockerfile = FROM x\na.txt\nb.md\n.dockerignore = *.md\n")
    request = BuildRequest(context=str(root))
    context = open_build_context(request, site)
    monkeypatch.chdir(tmp_path)
    assert read_dockerfile(request, context) == (b"FROM x", "ctx/Dockerfile")
    assert visible(context) == {"Dockerfile", "a.txt", ".dockerignore"}
    assert context.source is not None and not context.source.own


def test_the_ignore_file_beside_the_dockerfile_wins(site: BuildSite, tmp_path: Path) -> None:
    text = ".dockerignore = a\nother/Build = FROM y\nother/Build.dockerignore = b\na\nb\n"
    root = make_tree(tmp_path / "ctx", text)
    request = BuildRequest(context=str(root), dockerfile="other/Build")
    context = open_build_context(request, site)
    assert {"a", "b"} & visible(context) == {"a"}
    assert context.ignore_name.endswith("Build.dockerignore")
    inline = open_build_context(BuildRequest(context=str(root), inline="FROM z"), site)
    assert {"a", "b"} & visible(inline) == {"b"}


def test_a_dockerfile_that_is_ignored_is_still_read(site: BuildSite, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "ctx", "Dockerfile = FROM x\n.dockerignore = *\n")
    request = BuildRequest(context=str(root))
    context = open_build_context(request, site)
    assert visible(context) == set()
    assert read_dockerfile(request, context)[0] == b"FROM x"


def test_where_a_dockerfile_may_lie(site: BuildSite, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "ctx", "dockerfile = lower")
    make_tree(tmp_path, "outside.dockerfile = outside\noutside.dockerfile.dockerignore = dockerfile\n")

    def read(name: str | None) -> bytes:
        request = BuildRequest(context=str(root), dockerfile=name)
        return read_dockerfile(request, open_build_context(request, site))[0]

    assert read(None) == b"lower"
    assert read("../outside.dockerfile") == read(str(tmp_path / "outside.dockerfile")) == b"outside"
    outside = BuildRequest(context=str(root), dockerfile="../outside.dockerfile")
    assert visible(open_build_context(outside, site)) == set()


def test_an_inline_dockerfile_needs_no_context(site: BuildSite) -> None:
    request = BuildRequest(inline="FROM x\n")
    context = open_build_context(request, site)
    assert context.source is None
    assert read_dockerfile(request, context) == (b"FROM x\n", "dockerfile_inline")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_tar_from_standard_input(site: BuildSite, tmp_path: Path, pack: type[bytes]) -> None:
    members = [
        ("Dockerfile", "file", "FROM x", 0o644, 0),
        ("a", "file", "a", 0o640, 7),
        (".dockerignore", "file", "a", 0o644, 0),
    ]
    data = pack(make_tar(tmp_path / "t.tar", members).read_bytes())
    request = BuildRequest(context="-", stdin=data)
    context = open_build_context(request, site)
    assert read_dockerfile(request, context) == (b"FROM x", "Dockerfile")
    assert visible(context) == {"Dockerfile", "a", ".dockerignore"}
    assert context.source is not None and context.source.own
    assert context.root is not None and (context.root / "a").stat().st_uid == 7


def test_a_dockerfile_from_standard_input(site: BuildSite) -> None:
    request = BuildRequest(context="-", stdin=b"FROM x\n")
    context = open_build_context(request, site)
    assert context.source is None
    assert read_dockerfile(request, context) == (b"FROM x\n", "<stdin>")


def test_a_url(site: BuildSite, tmp_path: Path, web: Web) -> None:
    web.files["/ctx"] = make_tar(tmp_path / "t.tar", [("sub/Build", "file", "FROM x", 0o644, 0)]).read_bytes()
    web.files["/Dockerfile"] = b"FROM y"
    request = BuildRequest(context=f"{web.address}/ctx", dockerfile="sub/Build")
    assert read_dockerfile(request, open_build_context(request, site)) == (b"FROM x", "sub/Build")
    text = BuildRequest(context=f"{web.address}/Dockerfile")
    context = open_build_context(text, site)
    assert context.source is None
    assert read_dockerfile(text, context) == (b"FROM y", f"{web.address}/Dockerfile")


def test_a_repository(site: BuildSite, tmp_path: Path) -> None:
    commits = make_repository(tmp_path / "repo.git")
    request = BuildRequest(context=f"file://{tmp_path}/repo.git#main")
    context = open_build_context(request, site)
    assert read_dockerfile(request, context) == (b"FROM scratch\n", "Dockerfile")
    assert "sub/tool" in visible(context)  # an ignore file counts for local folders only
    assert context.source is not None and commits["main"] in context.source.identity
    part = open_context(f"file://{tmp_path}/repo.git#v1:sub", site)
    assert visible(part) == {"tool"}


def test_a_hostile_repository_shows_no_file_of_the_host(site: BuildSite, tmp_path: Path) -> None:
    from .repositories import git

    make_repository(tmp_path / "repo.git")
    (tmp_path / "repo.git/Dockerfile").unlink()
    (tmp_path / "repo.git/Dockerfile").symlink_to("/etc/passwd")
    (tmp_path / "repo.git/up").symlink_to("../../../../../../etc")
    git(tmp_path / "repo.git", "add", "-A")
    git(tmp_path / "repo.git", "commit", "-q", "-m", "hostile")
    for name in (None, "up/passwd"):
        request = BuildRequest(context=f"file://{tmp_path}/repo.git", dockerfile=name)
        with pytest.raises(StackError, match="there is no Dockerfile"):
            read_dockerfile(request, open_build_context(request, site))
    with pytest.raises(StackError, match="has no folder 'up'"):
        open_context(f"file://{tmp_path}/repo.git#main:up", site)


def test_additional_contexts(site: BuildSite, tmp_path: Path) -> None:
    make_tree(tmp_path / "more", "a\nb\n.dockerignore = b\n")
    more = open_named_context("more", str(tmp_path / "more"), site)
    assert visible(more) == {"a", ".dockerignore"}
    assert more.name == "the context 'more'"
    image = open_named_context("base", "docker-image://debian:12", site)
    assert (image.image, image.source) == ("debian:12", None)


def test_a_digest_is_of_the_content_alone(site: BuildSite, tmp_path: Path) -> None:
    one = open_context(str(make_tree(tmp_path / "one", "a = a\nd/b = b\nl -> a")), site)
    two = open_context(str(make_tree(tmp_path / "two", "a 644 7:7 = a\nd/b = b\nl -> a")), site)
    os.utime(tmp_path / "two/a", (5, 5))
    assert one.digest() == two.digest()
    assert one.digest("d") != one.digest("a") == two.digest("a")
    (tmp_path / "two/d/b").write_text("B")
    assert one.digest() != two.digest()
    assert one.digest("a") == two.digest("a")


FAULTS = [
    ("/nowhere/at/all", None, "does not exist", ""),
    ("{tmp}/context", None, "does not exist", "did you mean {tmp}/contex"),
    ("{tmp}/file", None, "is not a directory", "named by 'dockerfile'"),
    (
        "{tmp}/contex",
        "Dokerfile.dev",
        "there is no Dockerfile 'Dokerfile.dev' in {tmp}/contex",
        "there is Dockerfile.dev",
    ),
    ("{tmp}/contex", None, "there is no Dockerfile in", "there is Dockerfile.dev"),
    ("-", None, "nothing came from there", ""),
]


@pytest.mark.parametrize(("source", "dockerfile", "message", "hint"), FAULTS)
def test_faults(site: BuildSite, tmp_path: Path, source: str, dockerfile: str | None, message: str, hint: str) -> None:
    make_tree(tmp_path / "contex", "Dockerfile.dev = FROM x")
    (tmp_path / "file").write_text("x")
    request = BuildRequest(context=source.format(tmp=tmp_path), dockerfile=dockerfile)
    with pytest.raises(StackError, match=message.format(tmp=tmp_path)) as raised:
        read_dockerfile(request, open_build_context(request, site))
    assert hint.format(tmp=tmp_path) in raised.value.hint


GIT = [
    ("https://host/r.git", ("https://host/r.git", "", "")),
    ("https://host/r.git#main:sub/dir", ("https://host/r.git", "main", "sub/dir")),
    ("https://host/r.git#:sub", ("https://host/r.git", "", "sub")),
    ("https://host/r.git?branch=b&subdir=s", ("https://host/r.git", "refs/heads/b", "s")),
    ("https://host/r.git?tag=v1", ("https://host/r.git", "refs/tags/v1", "")),
    ("https://host/r.git?ref=x", ("https://host/r.git", "x", "")),
    ("git@host:o/r.git#v2", ("git@host:o/r.git", "v2", "")),
    ("ssh://git@host:22/o/r#x", ("ssh://git@host:22/o/r", "x", "")),
    ("git://host/r", ("git://host/r", "", "")),
    ("github.com/o/r#main", ("https://github.com/o/r", "main", "")),
    ("https://host/r", None),
    ("https://host/r.tar.gz", None),
    ("./git@host", None),
    ("folder", None),
]


@pytest.mark.parametrize(("text", "expected"), GIT)
def test_git_references(text: str, expected: tuple[str, str, str] | None) -> None:
    found = parse_git_reference(text)
    assert (None if found is None else (found.remote, found.ref, found.subdir)) == expected


def test_layout_specifications() -> None:
    assert split_layout("/a/b") == ("/a/b", "", "")
    assert split_layout("/a/b:tag") == ("/a/b", "tag", "")
    assert split_layout("/a:c/b") == ("/a:c/b", "", "")
    assert split_layout("/a/b@sha256:00") == ("/a/b", "", "sha256:00")


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo to write a layout")
def test_an_oci_layout(tmp_path: Path) -> None:
    store = ImageStore(Layout(tmp_path / "state", tmp_path / "run"))
    store.import_rootfs(make_tar(tmp_path / "root.tar", [("hello", "file", "hi", 0o644, 0)]), reference="example:1")
    store.save_archive(["example:1"], tmp_path / "image.tar")
    layout = tmp_path / "layout"
    source = f"docker-archive:{tmp_path}/image.tar"
    for tag in ("one", "two"):
        subprocess.run(["skopeo", "copy", "-q", source, f"oci:{layout}:{tag}"], check=True, capture_output=True)
    (tmp_path / "work").mkdir()
    site = BuildSite(tmp_path / "work", tmp_path / "cache", store=store)
    with store.open_workspace() as workspace:
        found = open_named_context("base", f"oci-layout://{layout}:two", site, workspace=workspace)
        image = store.require_image(found.image)
        assert (image.layers[0] / "hello").read_text() == "hi"
        for end, message in ((":none", "no image with the tag 'none'"), ("", "no image with the tag 'latest'")):
            with pytest.raises(StackError, match=message) as raised:
                open_named_context("base", f"oci-layout://{layout}{end}", site, workspace=workspace)
            assert "it has :one, :two" in raised.value.hint
        with pytest.raises(StackError, match="is not an OCI layout"):
            open_named_context("base", f"oci-layout://{tmp_path}/work", site, workspace=workspace)
