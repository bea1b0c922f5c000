"""What stands elsewhere: which names say so, what is fetched, and where it then belongs."""

from __future__ import annotations

import pytest

from orchestrator.errors import FileMissing
from orchestrator.spec.paths import is_remote

REPOSITORY = "https://host/shop.git#v1"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "https://host/x.git",
            "http://host:80/x.git#main:sub",
            "git://host/x",
            "ssh://git@host/x",
            "file:///srv/x.git",
        ),
        *("git@github.com:owner/repo.git#v1", "me@[::1]:x", "github.com/owner/repo", "oci://host/x:1", "oci:host/x"),
    ],
)
def test_names_of_what_is_elsewhere(name: str) -> None:
    assert is_remote(name)


@pytest.mark.parametrize(
    "name",
    [
        *("compose.yaml", "./git@x", "a/b://c", "../https://x", "/srv/x.git", "user@host/compose.yaml", "C:/x.yaml"),
        *("gitlab.com/x/y", "a@b://c", "~/x@y:z/../", "x.yaml@1"),
    ],
)
def test_names_of_local_files(name: str) -> None:
    assert not is_remote(name)


def test_paths_belong_to_where_the_file_came_from_and_variables_to_where_one_is(read) -> None:
    files = {
        "/cache/shop/compose.yaml": "services: {web: {image: 'w:${TAG:?}', volumes: ['./d:/d'], build: .}}",
        "/cache/shop/.env": "TAG=theirs\nOTHER=theirs\n",
        "/app/.env": "TAG=mine\n",
        "/app/more.yaml": "services: {web: {volumes: ['./e:/e']}}",
    }
    loaded, _, variables = read(files, REPOSITORY, "more.yaml")
    assert loaded.stack.name == "shop"
    assert loaded.stack.directory == "/cache/shop"
    web = loaded.stack.services["web"]
    assert (web.image, web.build.context) == ("w:mine", "/cache/shop")
    assert [one.source for one in web.volumes] == ["/cache/shop/d", "/cache/shop/e"]
    assert loaded.remote_files == (REPOSITORY,)
    assert [(one.name, one.required) for one in loaded.variables] == [("TAG", True)] == [(variables[0].name, True)]
    # A local file before it has its .env, and not the directory; an option says both.
    loaded, *_ = read({**files, "/app/x/a.yaml": "{services: {}}", "/app/x/.env": "TAG=x"}, "x/a.yaml", REPOSITORY)
    assert (loaded.stack.directory, loaded.stack.services["web"].image) == ("/cache/shop", "w:x")
    loaded, *_ = read({**files, "/else/.env": "TAG=else"}, REPOSITORY, project_directory="/else")
    assert (loaded.stack.directory, loaded.stack.services["web"].image) == ("/else", "w:else")


def test_parts_from_elsewhere(read) -> None:
    files = {
        "/app/compose.yaml": f"""
            include: ['{REPOSITORY}', github.com/a/b, github.com/local]
            services:
              own: {{extends: {{file: '${{WHERE}}', service: web}}}}
            """,
        "/cache/shop/compose.yaml": """
            services: {web: {build: ./w, env_file: a.env, extends: {file: up.yaml, service: u}}}
            """,
        "/cache/shop/up.yaml": "services: {u: {image: up, volumes: ['./u:/u']}}",
        "/cache/shop/a.env": "A=1",
        "/cache/shop/.env": "NAME=theirs",
        "/cache/b/compose.yaml": "services: {b: {image: b}}",
        "/app/github.com/local/compose.yaml": "services: {local: {image: l}}",
    }
    loaded, reader, _ = read(files, environ={"WHERE": REPOSITORY})
    assert set(loaded.stack.services) == {"web", "b", "local", "own"}
    own = loaded.stack.services["own"]
    assert (own.build.context, own.volumes[0].source, own.image) == ("/cache/shop/w", "/cache/shop/u", "up")
    assert own.environment == {"A": "1"}
    assert loaded.stack.directory == "/app"
    assert (loaded.remote_files, loaded.variables) == ((), ())
    assert set(loaded.remote_parts) == {REPOSITORY, "github.com/a/b"}
    assert "github.com/local" not in reader.fetched


def test_what_cannot_be_had_is_told_at_its_line(refuse, read) -> None:
    text = "include:\n  - https://host/none.git\nservices:\n  a: {extends: {file: 'git@h:x.git', service: b}}\n"
    assert refuse(text) == [
        "2:5 unsupported-include include[0]",
        "4:23 unsupported-extends services.a.extends.file",
    ]
    with pytest.raises(FileMissing, match=r"there is no https://host/none.git"):
        read({}, "https://host/none.git")


def test_an_address_in_a_variable_keeps_its_colons(read) -> None:
    files = {"/cache/shop/compose.yaml": "services: {web: {image: w}}"}
    loaded, *_ = read(files, environ={"COMPOSE_FILE": REPOSITORY})
    assert loaded.remote_files == (REPOSITORY,)
