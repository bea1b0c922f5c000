"""Repositories that a Dockerfile names see nothing of the user but what the build was given."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path

import pytest

from orchestrator.engines.native.dockerfile.request import BuildRequest, BuildSecret, SshSource
from orchestrator.engines.native.dockerfile.sources.git_login import GitLogin, make_login
from orchestrator.errors import StackError

from .places import Stage
from .repositories import git, make_repository
from .web import Web


@pytest.fixture
def served(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    """A repository that wants a login, and a user who has one."""
    make_repository(tmp_path / "repo")
    git(tmp_path, "clone", "-q", "--bare", f"file://{tmp_path}/repo", "served.git")
    git(tmp_path / "served.git", "update-server-info")
    web.folder = tmp_path
    web.authorization = "basic " + base64.b64encode(b"x-access-token:t0ken").decode()
    home = tmp_path / "home"
    home.mkdir()
    helper = home / "helper"
    helper.write_text(f"#!/bin/sh\ntouch {home}/asked\necho username=me\necho password=mine\n")
    helper.chmod(0o755)
    (home / ".gitconfig").write_text(f"[credential]\n\thelper = {helper}\n")
    (home / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_ASKPASS", str(helper))
    return web


def test_nothing_of_the_user_is_sent(stage: Stage, served: Web, tmp_path: Path) -> None:
    stage.site.login = GitLogin()
    with pytest.raises(StackError) as raised:
        stage.copy(f"ADD {served.address}/served.git /r")
    assert "--secret id=GIT_AUTH_TOKEN" in raised.value.hint
    assert served.sent == {""}
    assert not (tmp_path / "home/asked").exists()


@pytest.mark.parametrize("name", ["GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN.127.0.0.1", "GIT_AUTH_HEADER"])
def test_a_secret_is_a_login(stage: Stage, served: Web, tmp_path: Path, name: str) -> None:
    value = tmp_path / "value"
    value.write_text(f"{served.authorization}\n" if name == "GIT_AUTH_HEADER" else "t0ken\n")
    stage.site.login = make_login(BuildRequest(secrets=(BuildSecret(id=name, file=str(value)),)))
    assert stage.copy(f"ADD {served.address}/served.git#side /s")["s/only-here"][4] == "side"


def test_a_login_is_for_its_host(stage: Stage, served: Web) -> None:
    secret = BuildSecret(id="GIT_AUTH_TOKEN.example.org", content=b"t0ken")
    stage.site.login = make_login(BuildRequest(secrets=(secret,)))
    with pytest.raises(StackError):
        stage.copy(f"ADD {served.address}/served.git /r")
    assert served.sent == {""}


def test_a_login_in_an_address_is_used_and_not_kept(stage: Stage, served: Web) -> None:
    stage.site.login = GitLogin()
    for login in ("x-access-token:t0ken", "t0ken:x-oauth-basic"):
        served.authorization = "Basic " + base64.b64encode(login.encode()).decode()
        address = served.address.replace("://", f"://{login}@")
        found = stage.copy(f"ADD --keep-git-dir=true {address}/served.git#side /r")
        assert found["r/only-here"][4] == "side"
        assert f"url = {served.address}/served.git" in found["r/.git/config"][4]
        assert [name for name, facts in found.items() if "t0ken" in str(facts)] == []


def test_a_token_instead_of_a_user_is_not_shown(stage: Stage, served: Web) -> None:
    stage.site.login = GitLogin()
    for login in ("t0ken", "t0ken:", "t0ken:x-oauth-basic", "me:t0ken"):
        with pytest.raises(StackError) as raised:
            stage.copy(f"ADD {served.address.replace('://', f'://{login}@')}/served.git#none /r")
        assert "t0ken" not in raised.value.render(), login
        assert "xxxxx@127.0.0.1" in raised.value.render()


def test_ssh_is_given_what_the_build_was_given(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\n{{ echo "$SSH_AUTH_SOCK|$HOME"; printf "%s\\n" "$@"; }} > {tmp_path}/asked\nexit 255\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "mine"))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -i {tmp_path}/my-key")
    agent, key = tmp_path / "agent", tmp_path / "key"
    key.write_text("")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(agent))
        for given, wanted in (
            ((), {"IdentityAgent=none", "IdentityFile=none"}),
            ((SshSource(paths=(str(agent),)),), {f"IdentityAgent={agent}", "IdentityFile=none"}),
            ((SshSource(paths=(str(key),)),), {"IdentityAgent=none", "IdentitiesOnly=yes", f"IdentityFile={key}"}),
            ((SshSource(id="other", paths=(str(agent),)),), {"IdentityAgent=none", "IdentityFile=none"}),
        ):
            stage.site.login = make_login(BuildRequest(ssh=given))
            with pytest.raises(StackError):
                stage.plan("ADD git@repositories.invalid:x/y.git /r")
            first, *words = (tmp_path / "asked").read_text().splitlines()
            assert first.startswith("|")
            assert first != f"|{os.environ['HOME']}"
            assert {one for one in words if one.startswith("Identit")} == wanted
            assert f"{tmp_path}/my-key" not in words
