"""build, push, pull and image: what they ask of the engine, what they show, how they end."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.actions.build_environment import parse_build_args, read_proxies
from orchestrator.actions.image_build import BuildWords, make_request
from orchestrator.actions.image_filters import select_images
from orchestrator.cli.build_progress import PlainBuilds, PlainBuildScreen, RawJsonBuildScreen
from orchestrator.cli.gotemplate import render_template
from orchestrator.cli.quantities import parse_size
from orchestrator.engines.base import BuildEvent, dump_build_event
from orchestrator.engines.fake import FakeEngine
from orchestrator.engines.native.dockerfile.request import BuildSecret, SshSource
from orchestrator.engines.native.images.image import Image, ImageConfig
from orchestrator.errors import EngineError, StackError, UsageError
from orchestrator.events import Event
from orchestrator.goal import BuildOptions
from orchestrator.model import Service, Stack, Ulimit
from orchestrator.state import ImageFacts

from .conftest import NOW, Ran

SHOP = """
name: shop
services:
  web:
    image: registry.test/web:1
    build:
      context: web
      additional_contexts: {base: "service:base"}
      tags: [registry.test/web:latest]
    depends_on: [api]
  worker: {image: "registry.test/web:1"}
  api: {build: {context: api, args: {A: "1"}, ssh: [default]}}
  base: {build: base}
  db: {image: db}
"""


class BuildingEngine(FakeEngine):
    """Remembers the options of builds; some of them fail."""

    def __init__(self) -> None:
        super().__init__()
        self.options: list[BuildOptions] = []
        self.failing: set[str] = set()

    def build_image(self, stack: Stack, service: Service, **asked: Any) -> ImageFacts:
        self.options.append(asked["options"])
        if service.name in self.failing:
            error = EngineError("RUN false: exit code 1")
            error.output = "before\nthe end\n"  # type: ignore[attr-defined]
            raise error
        return super().build_image(stack, service, **asked)

    @property
    def built(self) -> list[str]:
        return [name for what, name in self.calls if what == "build"]


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BuildingEngine:
    """An engine that builds in memory, and a project in the present folder."""
    made = BuildingEngine()
    monkeypatch.setattr("orchestrator.actions.engine.open_engine", lambda: made)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "compose.yaml").write_text(SHOP)
    monkeypatch.chdir(folder)
    return made


def test_build_builds_what_is_named_after_what_it_is_built_from(
    stack: Callable[..., Ran], builder: BuildingEngine
) -> None:
    ran = stack("--progress", "plain", "build", "web", "--build-arg", "B=2", "--no-cache", "--pull", "--ssh", "k=/k")
    assert ran.code == 0, ran.err
    assert builder.built == ["shop-base", "registry.test/web:1"]
    options = builder.options[0]
    assert (options.args, options.no_cache, options.pull, options.ssh) == ({"B": "2"}, True, True, ("k=/k",))
    assert options.environment["SSH_AUTH_SOCK"] == "/agent"
    told = [re.sub(r"\d+\.\d+", "T", line) for line in ran.out.splitlines()[:3]]
    assert told == ["#1 [base 1/1] FROM scratch", "#1 T made", "#1 DONE Ts"]
    assert ran.err.splitlines() == [" Image shop-base Built", " Image registry.test/web:1 Built"]


def test_build_without_names_builds_all_and_with_dependencies_more(
    stack: Callable[..., Ran], builder: BuildingEngine
) -> None:
    assert stack("build", "-q").err == ""
    assert sorted(builder.built) == ["registry.test/web:1", "shop-api", "shop-base"]
    builder.calls.clear()
    assert stack("build", "--with-dependencies", "web").code == 0
    assert sorted(builder.built) == ["registry.test/web:1", "shop-api", "shop-base"]
    builder.calls.clear()
    assert stack("build", "db").err == "No services to build\n"
    assert stack("build", "nobody").code == 1
    assert not builder.built


def test_a_build_waits_for_images_with_names_of_what_its_service_depends_on(
    stack: Callable[..., Ran], builder: BuildingEngine
) -> None:
    Path("compose.yaml").write_text(
        "services: {zero: {image: zero, build: z}, app: {build: a, depends_on: [zero]}, more: {build: m}}\n"
    )
    assert stack("build").code == 0
    assert builder.built.index("zero") < builder.built.index("shop-app")


def test_a_failed_build_holds_back_what_needs_it_and_is_told(
    stack: Callable[..., Ran], builder: BuildingEngine
) -> None:
    builder.failing = {"base"}
    ran = stack("--progress", "quiet", "build", "web", "api")
    assert ran.code == 1
    assert builder.built == ["shop-api"]
    assert ran.err.splitlines() == [
        "error[engine-error]: RUN false: exit code 1",
        "  last output:",
        "    | before",
        "    | the end",
        "error[operation-failed]: 2 of 3 images could not be built",
    ]


def test_a_failure_reaches_what_needs_it_through_others(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    top = "  top: {build: {context: top, additional_contexts: {w: 'service:web'}}}\n"
    Path("compose.yaml").write_text(SHOP + top)
    builder.failing = {"base"}
    ran = stack("--progress", "quiet", "build", "top")
    assert "3 of 3 images could not be built" in ran.err
    assert builder.built == []


def test_provenance_is_asked_for(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    assert stack("build", "-q", "api", "--provenance", "mode=max").err == ""
    assert stack("build", "-q", "api", "--provenance=false").err == ""
    assert stack("build", "-q", "api").err == ""
    assert [one.provenance for one in builder.options] == ["max", "", None]
    assert "there is no mode 'most'" in stack("build", "-q", "api", "--provenance", "mode=most").err


def test_options_without_effect_are_reported(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    words = ("-m", "1g", "--sbom", "true")
    told = [line for line in stack("build", "-q", "api", *words).err.splitlines() if "option-without-effect" in line]
    assert [line.split()[1] for line in told] == ["--memory", "--sbom"]
    assert stack("build", "-q", "api", "--provenance=false", "--sbom=false", "--builder", "default").err == ""


def test_a_builder_that_there_is_not_is_refused(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    for words in (("build",), ("image", "build", ".")):
        ran = stack(*words, "--builder", "big")
        assert (ran.code, ran.err.splitlines()[0]) == (1, 'error[not-found]: no builder "big" found'), ran
        assert "called default" in ran.err
    assert not builder.built
    for name in ("", "default"):
        assert stack("build", "-q", "api", "--builder", name).code == 0


def test_print_writes_a_bake_file_and_builds_nothing(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    bake = json.loads(stack("build", "--print", "web", "--no-cache").out)
    assert bake["group"]["default"]["targets"] == ["base", "web"]
    assert bake["target"]["web"]["contexts"] == {"base": "target:base"}
    assert bake["target"]["web"]["tags"] == ["registry.test/web:1", "registry.test/web:latest"]
    assert bake["target"]["web"]["no-cache"] is True
    assert not builder.built


def test_check_tells_what_is_wrong_and_builds_nothing(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    Path("base").mkdir()
    Path("base/Dockerfile").write_text("FROM busybox\nRUN true\n")
    ran = stack("build", "--check", "base")
    assert (ran.code, ran.out) == (0, "Check complete, no warnings found.\n"), ran.err
    Path("base/Dockerfile").write_text("FROM busybox\nRNU true\n")
    ran = stack("build", "--check", "base")
    assert ran.code == 1
    assert "Dockerfile:2:1: error[unknown-instruction]" in ran.err
    ran = stack("build", "--check", "api")
    assert (ran.code, "cannot read" in ran.err) == (1, True)
    assert not builder.built


def test_what_no_build_can_honour_is_refused_before_any_begins(
    stack: Callable[..., Ran], builder: BuildingEngine
) -> None:
    Path("compose.yaml").write_text(SHOP.replace("build: base", "build: {context: base, network: lan}"))
    ran = stack("build")
    assert ran.code == 1
    assert "error[unsupported-by-engine]: a build cannot join the network lan" in ran.err
    Path("compose.yaml").write_text(SHOP.replace("build: base", "build: {additional_contexts: {b: 'service:web'}}"))
    ran = stack("build")
    assert (ran.code, "build-cycle" in ran.err) == (15, True)
    assert not builder.built


def test_push_sends_what_is_built_here_with_all_its_names(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    assert stack("build", "-q").code == 0
    builder.publish_image("registry.test/web:latest", local=True)
    builder.calls.clear()
    assert stack("--progress", "quiet", "push").code == 0
    assert sorted(builder.calls) == [("push", "registry.test/web:1"), ("push", "registry.test/web:latest")]
    ran = stack("push", "api", "db")
    assert ran.err.splitlines() == [
        "service api has no image name: there is nothing to push",
        "service db is not built here: there is nothing to push",
    ]
    builder._images.clear()
    assert stack("--progress", "quiet", "push").code == 1
    assert stack("--progress", "quiet", "push", "--ignore-push-failures").code == 0


def test_pull_names_what_can_be_built_instead(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    builder.publish_image("db")
    ran = stack("--progress", "quiet", "pull")
    assert ran.code == 1
    assert "stack build web" in ran.err
    builder.calls.clear()
    assert stack("--progress", "quiet", "pull", "--ignore-buildable").code == 0
    assert builder.calls == [("pull", "db")]
    builder.calls.clear()
    # What is called latest may have moved.
    assert stack("--progress", "quiet", "pull", "--policy", "missing", "--ignore-buildable").code == 0
    assert builder.calls == [("pull", "db")]


def test_up_asks_for_builds_as_points_in_time(
    stack: Callable[..., Ran], builder: BuildingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.actions.project import ProjectOptions, load_project
    from orchestrator.cli.commands import up

    assert stack("up", "-d", "--build", "--no-build").code == 16
    ran = stack("--dry-run", "up", "--build", "base")
    assert " DRY-RUN MODE -  Image shop-base Built\n" in ran.err
    assert "Starting" not in ran.err
    assert "is not supported in dry-run mode" in ran.out
    monkeypatch.setattr(up, "converge_with_progress", lambda _invocation, goal, *_rest, **_more: goals.append(goal))
    goals: list[Any] = []
    stack("up", "-d", "--build", "web")
    assert goals[0].build_before == dict.fromkeys(("api", "web"), goals[0].issued_at)
    assert goals[0].build_options.environment["SSH_AUTH_SOCK"] == "/agent"
    stack("up", "-d", "--no-build", "--pull", "always")
    assert (goals[1].build, goals[1].build_options.pull) == ("never", True)
    assert load_project(ProjectOptions()).name == "shop"


# What comes from the environment of the one who asks


def test_build_arguments_and_proxies(tmp_path: Path) -> None:
    assert parse_build_args(["A=1", "B", "C", "D="], {"B": "2"}) == {"A": "1", "B": "2", "D": ""}
    with pytest.raises(UsageError):
        parse_build_args(["=x"], {})
    config = tmp_path / "config.json"
    config.write_text('{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "here"}}}')
    assert read_proxies({"DOCKER_CONFIG": str(tmp_path)}) == {
        "HTTP_PROXY": "http://p:1", "http_proxy": "http://p:1", "NO_PROXY": "here", "no_proxy": "here",
    }  # fmt: skip
    config.write_text('{"proxies": ["nonsense"]}')
    assert read_proxies({"DOCKER_CONFIG": str(tmp_path)}) == {}


# image build


def test_the_words_of_image_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("k")
    (tmp_path / "Other").write_text("FROM scratch")
    words = BuildWords(
        dockerfile="Other",
        tags=("a:1", "a:1", "b"),
        platforms=("linux/amd64,linux/arm64",),
        labels=("x=1", "y"),
        annotations=("a=1", "manifest:b=2", "c:d=3"),
        no_cache_filter=("one,two",),
        hosts=("h:10.0.0.1", "six:[::1]"),
        ulimits=("nofile=1:2", "core=0"),
        contexts=("src=.", "img=docker-image://x"),
        secrets=("id=k,src=key", "id=T,env=TOKEN", "id=TOKEN"),
    )
    options = BuildOptions(ssh=("default",), environment={"SSH_AUTH_SOCK": "/agent", "SOURCE_DATE_EPOCH": "9"})
    found = make_request(words, options, {"TOKEN": "t"})
    assert (found.context, found.dockerfile) == (str(tmp_path), str(tmp_path / "Other"))
    assert found.tags == ("a:1", "b")
    assert found.platforms == ("linux/amd64", "linux/arm64")
    assert found.labels == {"x": "1", "y": ""}
    assert found.annotations == {"a": "1", "b": "2", "c:d": "3"}
    assert found.no_cache == ("one", "two")
    assert found.extra_hosts == (("h", "10.0.0.1"), ("six", "::1"))
    assert found.ulimits == {"nofile": Ulimit(soft=1, hard=2), "core": Ulimit(soft=0, hard=0)}
    assert found.contexts == {"src": str(tmp_path), "img": "docker-image://x"}
    assert found.secrets == (
        BuildSecret(id="k", file=str(tmp_path / "key")),
        BuildSecret(id="T", content=b"t"),
        BuildSecret(id="TOKEN", content=b"t"),
    )
    assert found.ssh == (SshSource(id="default", paths=("/agent",)),)
    assert found.source_date_epoch == 9
    assert make_request(BuildWords(context="https://x.test/r.git#main:sub"), BuildOptions(), {}).context == (
        "https://x.test/r.git#main:sub"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"context": "nowhere"}, {"context": "-", "dockerfile": "-"}, {"labels": ("=1",)}, {"network": "lan"},
        {"hosts": ("h",)}, {"ulimits": ("nofile=x",)}, {"allow": ("network",)}, {"contexts": ("src",)},
        {"annotations": ("index:a=1",)}, {"secrets": ("src=x",)}, {"secrets": ("id=x,src=nowhere",)},
        {"secrets": ("id=x,env=GONE",)},
    ],
)  # fmt: skip
def test_words_of_image_build_that_make_no_sense(
    wrong: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StackError):
        make_request(BuildWords(**wrong), BuildOptions(), {})


def test_sizes() -> None:
    assert [parse_size(one, "-m") for one in ("512", "64m", "1.5GB", "2KiB")] == [512, 64 << 20, 3 << 29, 2048]
    with pytest.raises(UsageError):
        parse_size("much", "-m")


# What is shown


def event(kind: Any, vertex: int = 1, time: float = 10.0, **fields: Any) -> BuildEvent:
    return BuildEvent(kind=kind, vertex=vertex, time=time, **fields)


def show(*events: BuildEvent, build: str = "") -> list[str]:
    lines: list[str] = []
    shown = PlainBuilds(lines.append)
    for one in events:
        shown.show(build, one)
    return [line for text in lines for line in text.split("\n")]


def test_a_plain_build_reads_like_buildkits() -> None:
    assert show(
        event("started", name="[build 2/5] RUN make"),
        event("log", time=10.2134, text="one\ntw"),
        event("log", time=10.3, text="o\r50%\r100%\nthree"),
        event("done", time=10.31),
        event("started", 2, name="[3/5] COPY . ."),
        event("cached", 2),
        event("started", 3, name="[4/5] RUN false"),
        event("failed", 3, time=11, text="exit code 1"),
        event("started", 4, name="[5/5] RUN true"),
        event("cancelled", 4),
        event("warning", 0, text="beware"),
    ) == [
        "#1 [build 2/5] RUN make", "#1 0.213 one", "#1 0.300 100%", "#1 0.310 three", "#1 DONE 0.3s", "",
        "#2 [3/5] COPY . .", "#2 CACHED", "",
        "#3 [4/5] RUN false", "#3 ERROR: exit code 1", "",
        "#4 [5/5] RUN true", "#4 CANCELED", "",
        "WARNING: beware",
    ]  # fmt: skip


def test_steps_side_by_side_are_told_apart_and_carry_their_service() -> None:
    assert show(
        event("started", 7, name="[a 1/2] RUN x"),
        event("started", 9, name="exporting"),
        event("log", 7, text="hello\n"),
        event("status", 9, text="layer", current=10, total=2000),
        event("status", 9, text="layer", current=20, total=2000, time=10.1),
        event("status", 9, text="layer", current=2000, total=2000, time=10.2),
        build="web",
    ) == [
        "#1 [web a 1/2] RUN x", "#1 ...", "",
        "#2 [web] exporting", "#2 ...", "",
        "#1 [web a 1/2] RUN x", "#1 0.000 hello", "#1 ...", "",
        "#2 [web] exporting", "#2 layer 10B / 2kB", "#2 layer 2kB / 2kB",
    ]  # fmt: skip


def test_screens_of_builds() -> None:
    def told(*events: BuildEvent) -> Event:
        details = {"build": [dump_build_event(one) for one in events]}
        return Event(
            time=NOW,
            kind="operation",
            verb="build image",
            phase="progress",
            subject="i:1",
            service="web",
            details=details,
        )

    plain, raw = io.StringIO(), io.StringIO()
    for screen in (PlainBuildScreen(labelled=True, stream=plain), RawJsonBuildScreen(raw)):
        screen(told(event("started", name="[1/1] FROM x"), event("done")))
        screen(Event(time=NOW, kind="warning", subject="i:1", message="odd"))
    assert plain.getvalue() == "#1 [web 1/1] FROM x\n#1 DONE 0.0s\n\nwarning: i:1: odd\n"
    lines = [json.loads(line) for line in raw.getvalue().splitlines()]
    assert lines[0] == {
        "service": "web", "image": "i:1", "kind": "started", "vertex": 1, "time": 10.0, "name": "[1/1] FROM x",
    }  # fmt: skip
    assert lines[2]["text"] == "warning: i:1: odd"


def test_the_live_display_keeps_what_runs_in_sight() -> None:
    from orchestrator.cli.build_live import BuildBoard

    board = BuildBoard()
    for number in range(20):
        board.show("", event("started", number, name=f"[{number}] done"))
        board.show("", event("done", number, time=11.0))
    board.show("", event("started", 99, name="[99] RUN make"))
    board.show("", event("log", 99, text="".join(f"\x1b[31mline\x1b[K {number}\x07\n" for number in range(50))))
    lines = [line.plain for line in board.render(10, 40, 12.0)]
    assert len(lines) == 10
    assert lines[-1] == " => => # line 49"
    assert " => [99] RUN make  2.0s" in lines
    assert " => [19] done  1.0s" in lines
    assert board.counts() == (20, 21)


# Filters and templates


def image(name: str = "", created: str = "2026-11-20T00:00:00Z", **labels: str) -> Image:
    return Image(
        id=f"sha256:{name or 'none'}",
        references=(f"docker.io/library/{name}",) if name else (),
        created=created,
        config=ImageConfig(labels=labels),
    )


def test_images_are_filtered() -> None:
    images = (image("web:1", a="1"), image("db:2", "2026-11-22T00:00:00Z", a="2"), image())

    def names(*filters: str) -> list[str]:
        found = select_images(images, filters, NOW, resolve=lambda name: next(i for i in images if name in i.id))
        return [one.id.removeprefix("sha256:") for one in found]

    assert names("dangling=true") == ["none"]
    assert names("dangling=false") == ["web:1", "db:2"]
    assert names("reference=web") == names("reference=w*:1") == ["web:1"]
    assert names("reference=web", "reference=db:2") == ["web:1", "db:2"]
    assert names("label=a") == ["web:1", "db:2"]
    assert names("label=a", "label=a=2") == ["db:2"]
    assert names("label!=a") == ["none"]
    assert names("before=db") == ["web:1", "none"]
    assert names("since=web") == ["db:2"]
    assert names("until=2026-11-21") == ["web:1", "none"]
    for wrong in ("colour=red", "dangling=maybe", "reference"):
        with pytest.raises(UsageError):
            names(wrong)


DATA = {
    "Id": "sha256:1",
    "Tags": ["a", "b"],
    "Config": {"Env": ["A=1"], "Labels": {"x.y": "z"}, "Cmd": None},
    "Size": 12,
}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("{{.Id}}", "sha256:1"),
        ("{{.Config.Env}} {{.Config}}", "[A=1] map[Cmd:<no value> Env:[A=1] Labels:map[x.y:z]]"),
        ("{{json .Config.Labels}}", '{"x.y":"z"}'),
        ('{{index .Config.Labels "x.y"}}{{index .Tags 1}}', "zb"),
        ('{{join .Tags ", "}}|{{.Id | upper}}', "a, b|SHA256:1"),
        ("{{range .Tags}}<{{.}}{{$.Size}}>{{end}}", "<a12><b12>"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .Config.Cmd}}y{{else if eq .Size 12}}twelve{{else}}n{{end}}", "twelve"),
        ("{{with .Config}}{{len .Env}}{{end}} {{- /* gone */ -}} !", "1!"),
        ('{{printf "%s-%d" .Id (len .Tags)}}\\n', "sha256:1-2\n"),
        ("{{.Config.Nothing.Deep}}", "<no value>"),
    ],
)  # fmt: skip
def test_go_templates(form: str, text: str) -> None:
    assert render_template(form, DATA) == text


@pytest.mark.parametrize(
    "form",
    ["{{.Gone}}", "{{.Id", "{{if .Id}}", "{{end}}", "{{nofun .Id}}", "{{.Id .Size}}", "{{(.Id}}", "{{len .Size}}"],
)
def test_templates_that_cannot_be_read(form: str) -> None:
    with pytest.raises(UsageError, match="--format"):
        render_template(form, DATA)
