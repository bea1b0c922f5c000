"""Stack files in Git repositories: what is fetched, when it is fetched again, and what is refused."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.actions import git_files
from orchestrator.actions.project import Project, ProjectOptions, Remote, identify_project, load_project
from orchestrator.cli.consenting import RemoteDeclined, ask_about_remote
from orchestrator.cli.invocation import make_invocation
from orchestrator.goal import Goal
from orchestrator.model import Stack as Model
from orchestrator.spec.interpolate import Variable
from orchestrator.supervision.control import Place, dump_goal, write_goal

from .conftest import Ran

Stack = Callable[..., Ran]


class Repository:
    """A work tree, and the bare repository that it is pushed to."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.bare = folder / "tree", folder / "served" / "shop.git"
        self.url = f"file://{self.bare}"
        self.tree.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", str(self.tree))
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare))

    def git(self, *words: str) -> str:
        names = {f"GIT_{who}_{what}": "me@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(
            ["git", *words], cwd=self.tree, env={**os.environ, **names}, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, *, tag: str = "", **files: str) -> str:
        """Write files (two underscores are a slash, one a dot), and publish them; return the commit."""
        for name, text in files.items():
            path = self.tree / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        if tag:
            self.git("tag", "-a", "-m", "tag", tag)
        self.git("push", "-q", "--tags", str(self.bare), "HEAD:refs/heads/main")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Repository(tmp_path)


def image(ran: Ran) -> str:
    assert ran.code == 0, ran.err
    return next(line.split()[1] for line in ran.out.splitlines() if "image:" in line)


def test_a_branch_moves_a_commit_does_not(stack: Stack, repository: Repository) -> None:
    first = repository.commit(compose_yaml="services: {web: {image: 'w:1', build: ./ctx}}", tag="v1")
    assert image(stack("-f", repository.url, "config")) == "w:1"
    assert "name: shop\n" in stack("-f", f"{repository.url}#main", "config").out
    second = repository.commit(compose_yaml="services: {web: {image: 'w:2'}}")
    # Twice: what was found the first time must not be remembered.
    for name, expected in (("", "w:2"), ("#main", "w:2"), ("#v1", "w:1"), (f"#{first}", "w:1"), (f"#{second}", "w:2")):
        for _ in range(2):
            assert image(stack("-f", f"{repository.url}{name}", "config")) == expected
    assert image(stack("-f", f"{repository.url}?tag=v1", "config")) == "w:1"
    Path("compose.yaml").write_text(f"include: ['{repository.url}#main']")
    assert image(stack("config")) == "w:2"
    repository.commit(compose_yaml="services: {web: {image: 'w:3'}}")
    assert image(stack("config")) == "w:3"
    # Without the repository only a commit says what it is.
    repository.bare.rename(repository.bare.with_suffix(".away"))
    assert image(stack("-f", f"{repository.url}#{first}", "config")) == "w:1"
    Path("compose.yaml").write_text(f"include:\n  - {repository.url}#main\n")
    ran = stack("config")
    assert (ran.code, "compose.yaml:2:5: error[git-failed]" in ran.err) == (15, True), ran.err
    assert ran.err.count("\n") == 3, "one message, its path and its hint"


def test_folders_files_and_what_leads_out(stack: Stack, repository: Repository) -> None:
    for name, target in (("out.yaml", "/etc/hostname"), ("up", ".."), ("in.yaml", "sub/plain.yaml")):
        (repository.tree / name).symlink_to(target)
    (repository.tree / "linked").mkdir()
    (repository.tree / "linked/compose.yaml").symlink_to("/etc/hostname")
    repository.commit(
        sub__base_yaml="services: {base: {image: 'b:1', env_file: x.env}}",
        sub__x_env="A=1",
        sub__plain_yaml="services: {base: {image: 'b:1'}}",
        sub__docker__compose_yaml="services: {sub: {image: 's:1', extends: {file: ../base.yaml, service: base}}}",
        empty__x_txt="",
    )
    url = repository.url
    ran = stack("-f", f"{url}#main:sub/docker", "config")
    assert (image(ran), 'A: "1"' in ran.out) == ("s:1", True)
    for name in ("sub/base.yaml", "in.yaml", "/sub/base.yaml"):
        assert stack("-f", f"{url}#:{name}", "config", "--services").out == "base\n", name
    for name, code in (
        *(("out.yaml", "invalid-git-reference"), ("up", "invalid-git-reference"), ("up/x", "invalid-git-reference")),
        *(("../x", "invalid-git-reference"), ("linked", "invalid-git-reference"), ("none", "git-folder-missing")),
        *(("empty", "git-folder-missing"), ("", "git-folder-missing")),
    ):
        ran = stack("-f", f"{url}#main:{name}", "config")
        assert (ran.code, f"error[{code}]" in ran.err) == (14, True), (name, ran.err)
    Path("compose.yaml").write_text(
        f"services:\n  web:\n    extends:\n      file: {url}#main:sub/base.yaml\n      service: base\n    command: x\n"
    )
    assert image(stack("config")) == "b:1"
    assert stack("-f", f"{url}#none", "config").code == 14
    ran = stack("-f", "https://host.example/compose.yaml", "config")
    assert (ran.code, "no repository" in ran.err, ".git" in ran.err) == (14, True, True)


LINKED = {
    "include: [away/part.yaml]": (1, "unreadable-file"),
    "include: [{path: in.yaml, env_file: away/x.env}]": (1, "unreadable-file"),
    "services: {a: {extends: {file: away/part.yaml, service: p}}}": (1, "unreadable-file"),
    "services: {a: {image: i, env_file: away/x.env}}": (1, "unreadable-file"),
    "services: {a: {image: i, label_file: away/x.env}}": (1, "unreadable-file"),
    "services: {a: {image: i, volumes: ['./away:/x']}}": (1, "link-leads-out"),
    "services: {a: {build: away}}": (1, "link-leads-out"),
    "services: {a: {build: {context: ., dockerfile: away/x.env}}}": (1, "link-leads-out"),
    "services: {a: {image: i, secrets: [s]}}\nsecrets: {s: {file: away/x.env}}": (2, "link-leads-out"),
    "services: {a: {image: i, configs: [s]}}\nconfigs: {s: {file: away/x.env}}": (2, "link-leads-out"),
    "services: {a: {image: i, develop: {watch: [{path: away, action: rebuild}]}, build: .}}": (1, "link-leads-out"),
}


def test_no_link_stands_for_a_file_of_this_machine(stack: Stack, repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private/x.env").write_text("A=hidden\n")
    (tmp_path / "private/part.yaml").write_text("services: {p: {image: hidden}}")
    (repository.tree / "away").symlink_to(tmp_path / "private")
    (repository.tree / "own").symlink_to("sub")
    for text, (line, code) in LINKED.items():
        repository.commit(compose_yaml=text, in_yaml="services: {}", sub__x_env="A=1", Dockerfile="FROM scratch")
        ran = stack("-f", repository.url, "config")
        assert (ran.code, "a link leads out" in ran.err) == (15, True), (text, ran)
        assert re.search(rf"/shop/compose\.yaml:{line}:\d+: error\[{code}\]", ran.err), ran.err
        assert "hidden" not in ran.out + ran.err
    repository.commit(
        compose_yaml="services: {a: {image: i, env_file: own/x.env, volumes: ['./own:/x', '/etc:/y']}}", own2="x"
    )
    ran = stack("-f", repository.url, "config")
    assert (ran.code, 'A: "1"' in ran.out) == (0, True), ran.err


def test_no_hook_and_no_question(
    stack: Stack, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, seen = tmp_path / "template/hooks", tmp_path / "seen"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >>{seen}\n")
        (hooks / name).chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(f"[init]\n\ttemplateDir = {hooks.parent}\n[core]\n\thooksPath = {hooks}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    (tmp_path / ".gitconfig").write_text(settings.read_text())
    repository.commit(compose_yaml="services: {web: {image: 'w:1'}}")
    seen.unlink(missing_ok=True)
    assert image(stack("-f", repository.url, "config")) == "w:1"
    assert not seen.exists()
    monkeypatch.setenv("COMPOSE_EXPERIMENTAL_GIT_REMOTE", "false")
    assert "switched off" in stack("-f", repository.url, "config").err
    monkeypatch.delenv("COMPOSE_EXPERIMENTAL_GIT_REMOTE")
    monkeypatch.setenv("PATH", "/nowhere")
    ran = stack("-f", repository.url, "config")
    assert (ran.code, "error[git-missing]" in ran.err, "install the package" in ran.err) == (14, True, True)


@pytest.fixture
def daemon(repository: Repository, tmp_path: Path) -> Iterator[str]:
    """A git daemon on loopback; yields its address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    served = subprocess.Popen(
        [
            *("git", "daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={port}"),
            *("--init-timeout=5", "--timeout=10", f"--base-path={tmp_path / 'served'}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert served.poll() is None, "git daemon has ended"
            time.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(served.pid, 15)
        served.wait()


def test_a_server(stack: Stack, repository: Repository, daemon: str, tmp_path: Path) -> None:
    for number in range(3):
        last = repository.commit(compose_yaml=f"services: {{web: {{image: 'w:{number}'}}}}", tag=f"v{number}")
    assert image(stack("-f", f"{daemon}/shop.git#v1", "config")) == "w:1"
    assert image(stack("-f", f"{daemon}/shop.git", "config")) == "w:2"
    folder = next((tmp_path / "state/cache/stacks").glob(f"git-{last}-*/shop"))
    count = subprocess.run(["git", "-C", folder, "rev-list", "--count", "HEAD"], capture_output=True, text=True)
    assert count.stdout == "1\n", "more than the one commit has been fetched"
    assert not list((tmp_path / "state/cache/stacks").glob(".fresh-*"))
    unit = stack("-f", f"{daemon}/shop.git#main", "enable", "--print").out
    assert f"--file {daemon}/shop.git#main up --detach\n" in unit
    assert "--project-name shop stop\n" in unit, "what is stopped need not be fetched"
    assert ("Environment=STACK_REMOTE_CONSENT=1\n" in unit, f"WorkingDirectory={Path.cwd()}\n" in unit) == (True, True)
    ran = stack("-f", f"{daemon}/shop.git", "lock")
    assert (ran.code, "lock it where it is written" in ran.err) == (16, True), ran.err
    assert not list(folder.glob("stack.lock"))
    ran = stack("-f", f"{daemon}/none.git", "config")
    assert (ran.code, "error[git-failed]" in ran.err) == (14, True)


def test_a_server_that_does_not_answer(stack: Stack, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_files, "TIME_TO_ASK", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        ran = stack("-f", f"git://127.0.0.1:{deaf.getsockname()[1]}/shop.git", "config")
    assert (ran.code, "error[git-timeout]" in ran.err, "0.3 seconds" in ran.err) == (14, True, True), ran.err


class Terminal:
    """Standard input with answers."""

    def __init__(self, *answers: str, terminal: bool = True) -> None:
        self.answers, self.terminal = list(answers), terminal

    def isatty(self) -> bool:
        return self.terminal

    def readline(self) -> str:
        return self.answers.pop(0) if self.answers else ""


def load(repository: Repository) -> Project:
    repository.commit(
        compose_yaml=f"include: ['{repository.url}#main:part.yaml']\n"
        "services: {web: {image: 'w:${TAG:-1}', environment: ['A=${API_TOKEN:?}', 'B=${B}', 'C=${CASE}']}}",
        part_yaml="services: {part: {image: '${IMAGE-p}'}}",
    )
    Path(".env").write_text("CASE=mine\nAPI_TOKEN=hidden\n")
    return load_project(ProjectOptions(files=(repository.url,)))


def test_what_a_stack_from_elsewhere_is_told_is_agreed_to(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("STACK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("B", "two")
    project = load(repository)
    invocation = make_invocation(files=(repository.url,))

    def ask(*answers: str, terminal: bool = True, yes: bool = False) -> bool:
        monkeypatch.setattr("sys.stdin", Terminal(*answers, terminal=terminal))
        try:
            ask_about_remote(invocation, project, yes=yes)
        except RemoteDeclined as error:
            assert error.message == "operation cancelled by user"
            return False
        return True

    assert ask("y\n", "\n"), "yes is what is proposed"
    said = capsys.readouterr().err
    assert f"  - {repository.url}#main:part.yaml\n" in said
    assert f'Your compose stack "{repository.url}" is stored in "{tmp_path}/state/cache/stacks/git-' in said
    rows = [line.split() for line in said.splitlines()]
    start = rows.index(["VARIABLE", "VALUE", "SOURCE", "REQUIRED", "DEFAULT"])
    assert rows[start + 1 : start + 6] == [
        ["API_TOKEN", "********", "env", "file", "yes"],
        ["B", "two", "environment", "no"],
        ["CASE", "mine", "env", "file", "no"],
        ["IMAGE", "p", "compose", "file", "no", "p"],
        ["TAG", "1", "compose", "file", "no", "1"],
    ]
    assert "hidden" not in said
    assert "Do you want to continue? [y/N]: " in said
    assert "Do you want to proceed with these variables? [Y/n]: " in said
    assert not ask("\n"), "an include is not agreed to by an empty line"
    assert not ask("y\n", "n\n")
    assert not ask("y\n", ""), "the end of what is typed is no answer"
    assert ask("yes\n", "what\n", "Y\n"), "asked again"
    assert ask("y\n", "true\n", terminal=False)
    capsys.readouterr()
    assert not ask("y\n", "\n", terminal=False), "nobody has said yes"
    assert not ask(terminal=False)
    capsys.readouterr()
    assert ask(yes=True)
    assert "VARIABLE" not in capsys.readouterr().err
    monkeypatch.setenv("STACK_REMOTE_CONSENT", "1")
    assert ask(terminal=False)
    # What is here is nobody else's.
    project = load_project(ProjectOptions(files=(str(repository.tree / "part.yaml"),)))
    monkeypatch.delenv("STACK_REMOTE_CONSENT")
    assert ask(terminal=False)


ACTING = (
    *("up -d", "up --watch", "run web", "create", "scale web=1", "build", "build --check", "watch", "watch --no-up"),
    *("pull", "push", "publish host.example/x", "enable", "lock --check", "config --resolve-image-digests"),
)
"""Commands that do what the files say: with what is theirs, or by asking registries for the names in them."""

NAMED = "start restart stop down rm kill pause unpause wait"
"""Commands about what runs already, which somebody has agreed to."""

LOOKING = (
    "ps logs exec cp attach top stats events volumes export commit port images plan why trace convert graph ls image "
    "disable doctor completion version"
)


@pytest.mark.parametrize("line", ACTING)
def test_every_command_that_acts_asks_first(
    stack: Stack, repository: Repository, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    repository.commit(
        compose_yaml="services: {web: {image: 'w:${TAG:-1}', build: ., develop: {watch: [{path: x, action: rebuild}]}}}"
        "\n",
        Dockerfile="FROM scratch",
    )
    monkeypatch.setattr("orchestrator.cli.main._prepare_supervisor", lambda *_: None)
    monkeypatch.setattr("sys.stdin", Terminal("n\n", terminal=False))
    ran = stack("-f", repository.url, *line.split())
    assert "Do you want to proceed with these variables? [Y/n]: " in ran.err, ran
    assert (ran.code, "error[declined]: operation cancelled by user" in ran.err) == (1, True), ran
    assert "STACK_REMOTE_CONSENT=1" in ran.err


def test_it_is_known_of_every_command_whether_it_asks() -> None:
    folder = Path(git_files.__file__).parents[1] / "cli/commands"
    commands = {one.stem for one in folder.glob("*.py")} - {"__init__"}
    asking = {line.split()[0] for line in ACTING} | {"ui"}
    known = [asking, set(NAMED.split()), set(LOOKING.split())]
    assert set.union(*known) == commands
    assert sum(map(len, known)) == len(commands)


def test_commands_about_what_runs_go_by_what_was_agreed_to(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STACK_STATE_DIR", str(tmp_path / "state"))
    options = ProjectOptions(files=(repository.url,))
    repository.commit(compose_yaml="services: {web: {image: 'w:1'}}")
    agreed = load_project(options)
    assert agreed.stack is not None
    write_goal(Place.of("shop"), "native", dump_goal(Goal(stack=agreed.stack)))
    repository.commit(compose_yaml="services: {web: {image: 'w:${TOKEN:-2}'}, other: {image: 'o:1'}}")
    found = identify_project(options)
    assert found.stack is not None
    assert {one.image for one in found.stack.services.values()} == {"w:1"}
    assert found.services == ("web",)
    now = load_project(options).stack
    assert now is not None
    assert set(now.services) == {"web", "other"}


def test_what_strangers_have_written_cannot_move_the_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "a\x1b[2K\r\x07\x9b1A\u202eb\nc\td\x7f"
    remote = Remote(
        files=(f"https://t0ken@host/{evil}.git",),
        parts=(f"https://me:secret@host/{evil}.git",),
        variables=(Variable("A", default=evil), Variable("B"), Variable("C")),
    )
    project = Project(
        name="shop",
        stack=Model(name="shop", directory=f"/{evil}"),
        environment={"B": evil, "C": "plain ünïcode"},
        remote=remote,
    )
    monkeypatch.setattr("sys.stdin", Terminal("y\n", "y\n", terminal=False))
    ask_about_remote(make_invocation(), project, yes=False)
    said = capsys.readouterr().err
    assert {one for one in said if not one.isprintable()} == {"\n"}
    shown = r"a\x1b[2K\r\x07\x9b1A\u202eb\nc\td\x7f"
    lines = said.splitlines()
    assert f"  - https://me:xxxxx@host/{shown}.git" in lines
    assert f'Your compose stack "https://xxxxx@host/{shown}.git" is stored in "/{shown}"' in lines
    rows = [line.split()[:2] for line in lines if line[:2] in ("A ", "B ", "C ")]
    assert rows == [["A", shown], ["B", shown], ["C", "plain"]]


UNREADABLE = (
    "https://me:secret@[broken/shop.git",
    "https://[::1/shop.git",
    "ssh://git@[x/shop.git",
    "https://host.example/shop.git?private=secret",
    "https://me:secret@host.example/shop.git#main:../../etc",
    "https://me:secret@host.example/shop.git#--upload-pack=x",
    "https://secret@host.example/shop.yaml",
    "https://me:secret@host.example:port/shop",
)


@pytest.mark.parametrize("address", UNREADABLE)
def test_an_address_that_cannot_be_read_is_one_message(stack: Stack, repository: Repository, address: str) -> None:
    ran = stack("-f", address, "config")
    assert (ran.code, ran.out, ran.err.count("error[")) == (14, "", 1), ran
    assert "internal" not in ran.err
    assert "secret" not in ran.err.replace("private=secret", "")
    Path("compose.yaml").write_text(f"services: {{}}\ninclude:\n  - {address!r}\n")
    ran = stack("config")
    assert (ran.code, ran.err.count("error[")) == (14 if "file-not-found" in ran.err else 15, 1), ran
    assert ran.err.startswith("compose.yaml:3:5: error["), ran.err
    assert "secret" not in ran.err.replace("private=secret", "")


def test_an_address_with_a_null_byte(stack: Stack, repository: Repository) -> None:
    Path("compose.yaml").write_text('include:\n  - "https://host.example/a\\0b.git"\n')
    ran = stack("config")
    assert (ran.code, ran.err.startswith("compose.yaml:2:5: error["), "internal" in ran.err) == (15, True, False), ran
