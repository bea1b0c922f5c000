"""Options that stand beside the great scenarios: each is seen to make its difference."""

from __future__ import annotations

import json
import re

from .conftest import Project
from .test_attached import read_until

PAIR = """
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "echo from web; exec sleep 1000"]
    depends_on: {db: {condition: service_started, restart: true}}
    volumes: ["/anonymous"]
  db: {image: busybox, init: true, command: [sh, -c, "echo from db; exec sleep 1000"]}
"""


def ids(project: Project) -> dict[str, str]:
    """The ids of the project's containers by their short names."""
    return {name: row["ID"] for name, row in project.containers("--no-trunc").items()}


def test_options_of_run(project: Project) -> None:
    project.write(PAIR.replace("db: {image", "db: {cap_drop: [CHOWN, KILL], image"))
    bounding = "grep CapBnd /proc/self/status"
    words = ("run", "--rm", "-T", "--no-deps", "--quiet", "--pull", "never")
    plain = int(project.succeed(*words, "db", "sh", "-c", bounding).split()[1], 16)
    given = project.succeed(*words, "--cap-add", "KILL", "--cap-drop", "SETUID", "db", "sh", "-c", bounding)
    # Bits of capabilities(7): CAP_KILL is 5, CAP_SETUID is 7.
    assert int(given.split()[1], 16) ^ plain == 1 << 5 | 1 << 7
    # Nothing is passed on that was typed, and nobody is told what is done.
    ran = project.run(*words, "--interactive=false", "db", "cat", stdin="typed")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    project.succeed(
        "run", "-d", "--name", "open", "--quiet-pull", "--quiet-build", "-p", "127.0.0.1::81", "web", "sleep", "1000"
    )
    assert [one["TargetPort"] for one in project.containers()["open"]["Publishers"]] == [81]
    # Orphans go if that is asked for.
    project.succeed("up", "-d")
    project.write("services: {db: {image: busybox, init: true, command: [sleep, '1000']}}")
    project.succeed("run", "--rm", "-T", "--remove-orphans", "db", "true")
    assert sorted(project.containers()) == ["db-1", "open"]
    project.write("HERE=from the file\n", ".env")
    for _ in range(2):
        assert project.succeed(*words, "-e", "HERE", "db", "sh", "-c", "echo $HERE") == "from the file\n"
    ran = project.run(*words[:2], "--tty", "db", "true", stdin="")
    assert (ran.code, "stdin is not a terminal" in ran.err) == (1, True)
    ran = project.run("run", "-v", "one:two:three:four", "db")
    assert ran.code == 16
    assert "--volume: 'one:two:three:four' has too many colons" in ran.err
    assert "--publish" in project.run("run", "-p", "1:2:3:4:5", "db").err


def test_a_replica_is_chosen_by_its_number(project: Project) -> None:
    project.write("""
services:
  w:
    image: busybox
    scale: 2
    ports: ["127.0.0.1::53", "127.0.0.1::53/udp"]
    command: [sh, -c, "hostname > /name; trap 'exit 6' TERM; while true; do sleep 0.1; done"]
""")
    project.succeed("up", "-d")
    second = ids(project)["w-2"][:12]
    for number in ("1", "2"):
        row = project.containers()[f"w-{number}"]["Publishers"]
        for protocol in ("tcp", "udp"):
            port = next(one["PublishedPort"] for one in row if one["Protocol"] == protocol)
            shown = project.succeed("port", "--index", number, "--protocol", protocol, "w", "53")
            assert shown == f"127.0.0.1:{port}\n"
    project.succeed("run", "-d", "--name", "extra", "w", "sleep", "1000")
    project.write("x", "file")
    project.succeed("cp", "--all", "file", "w:/given")
    project.succeed("cp", "--index", "2", "w:/name", "name")
    assert (project.folder / "name").read_text() == f"{second}\n"
    done = project.popen("export", "--index", "2", "w", text=False)
    archive, _err = done.communicate(timeout=60)
    assert f"{second}\n".encode() in archive
    project.succeed("commit", "--index", "2", "w", "second")
    try:
        project.write("services: {s: {image: second}}", "other.yaml")
        assert project.succeed("-f", "other.yaml", "run", "--rm", "-T", "s", "cat", "/given", "/name") == f"x{second}\n"
    finally:
        project.run("image", "rm", "second")
    attach = project.popen("attach", "--index", "2", "w")
    project.wait_until("the first has it all", lambda: project.run("exec", "-T", "w", "true").code == 0)
    project.succeed("kill", "-s", "TERM", "w")
    attach.communicate(timeout=60)
    assert attach.returncode in (1, 6)  # it may have ended before we were attached
    assert len(project.succeed("stats", "-a", "--no-stream", "--no-trunc", "--format", "{{.ID}}", "w").split()[0]) == 64


def test_exec_in_the_background_and_with_all_privileges(project: Project) -> None:
    project.write(PAIR)
    project.succeed("up", "-d")
    assert project.succeed("exec", "-d", "db", "sh", "-c", "sleep 0.1; touch /done; sleep 1000") == ""
    project.wait_until("it is done", lambda: project.run("exec", "-T", "db", "ls", "/done").code == 0)
    mine = project.succeed("exec", "-T", "db", "grep", "CapEff", "/proc/self/status")
    all_of_them = project.succeed("exec", "-T", "--privileged", "db", "grep", "CapEff", "/proc/self/status")
    assert int(all_of_them.split()[1], 16).bit_count() > int(mine.split()[1], 16).bit_count()


def test_create_and_what_is_left_alone(project: Project) -> None:
    project.write(PAIR)
    words = ("create", "--pull", "never", "--quiet-pull", "-y")
    project.succeed(*words, "--scale", "db=2", "--no-build")
    assert {row["State"] for row in project.containers().values()} == {"created"}
    first = ids(project)
    assert sorted(first) == ["db-1", "db-2", "web-1"]
    project.write(PAIR.replace("from db", "changed"))
    project.succeed(*words, "--scale", "db=2", "--no-recreate")
    assert ids(project) == first
    project.succeed(*words, "--force-recreate", "db")
    assert ids(project)["web-1"] == first["web-1"]
    assert ids(project)["db-1"] != first["db-1"]
    project.write("services: {db: {image: busybox, command: [sleep, '1000']}}")
    project.succeed("create", "--remove-orphans")
    assert sorted(ids(project)) == ["db-1"]


def test_orphans_are_named(project: Project) -> None:
    project.write(PAIR)
    project.succeed("up", "-d")
    project.write("services: {db: {image: busybox, init: true, command: [sh, -c, 'echo from db; exec sleep 1000']}}")
    assert len(project.succeed("ps", "-q").split()) == 2
    assert len(project.succeed("ps", "-q", "--orphans=false").split()) == 1
    project.succeed("kill")
    assert project.containers()["web-1"]["State"] == "running"
    project.succeed("kill", "--remove-orphans")
    project.wait_until("the orphan has ended", lambda: project.containers()["web-1"]["State"] == "exited")
    for command in ("start", "restart"):
        assert "web cannot be started" in project.run(command, "web").err
    # What another file of the project has made stays, with what it is on, and goes on being looked after.
    ran = project.run("down", "-v", "-t", "0")
    assert (ran.code, "web-1: the stack file has no such service; it stays" in ran.err) == (0, True), ran.err
    assert "Network" not in ran.err
    assert list(project.containers()) == ["web-1"]
    project.write(PAIR)
    project.succeed("up", "-d")
    project.write("services: {db: {image: busybox, init: true, command: [sleep, '1000']}}")
    project.succeed("down", "-t", "0")
    assert project.containers()["web-1"]["State"] == "running"
    assert json.loads(project.succeed("why", "--format", "json", "web"))["pid"]
    project.succeed("down", "-t", "0", "--remove-orphans")
    assert project.containers() == {}


def test_dependencies_are_taken_along_or_not(project: Project) -> None:
    project.write(PAIR)
    project.succeed("up", "-d", "--no-deps", "web")
    assert list(project.containers()) == ["web-1"]
    project.succeed("scale", "--no-deps", "web=2")
    assert sorted(project.containers()) == ["web-1", "web-2"]
    project.succeed("up", "-d", "--scale", "web=1", "--no-start")
    assert project.containers()["db-1"]["State"] == "created"
    project.succeed("start", "--wait", "--wait-timeout", "20")
    assert {row["State"] for row in project.containers().values()} == {"running"}
    pid = project.pid("web-1")
    project.succeed("restart", "-t", "0", "--no-deps", "db")
    assert project.pid("web-1") == pid
    project.succeed("restart", "-t", "0", "db")
    assert project.pid("web-1") != pid
    before = ids(project)
    project.write(PAIR.replace("from web", "changed"))
    project.succeed("up", "-d", "--no-recreate")
    assert ids(project) == before
    project.succeed("up", "-d", "-t", "0", "--always-recreate-deps", "web")
    after = ids(project)
    assert (after["web-1"] != before["web-1"], after["db-1"] != before["db-1"]) == (True, True)
    # What another file has started since then does not keep the services of this one from being stopped.
    project.write("services: {other: {image: busybox, init: true, command: [sleep, '1000']}}", "other.yaml")
    project.succeed("-f", "other.yaml", "up", "-d")
    project.succeed("stop", "-t", "0")
    assert {name: row["State"] for name, row in project.containers().items()} == {
        "db-1": "exited",
        "other-1": "running",
        "web-1": "exited",
    }
    (project.folder / "other.yaml").unlink()


def test_anonymous_volumes_are_renewed_and_removed(project: Project) -> None:
    project.write(PAIR)
    project.succeed("up", "-d")
    project.succeed("exec", "-T", "web", "touch", "/anonymous/kept")
    project.succeed("up", "-d", "-t", "0", "--force-recreate", "web")
    assert project.succeed("exec", "-T", "web", "ls", "/anonymous") == "kept\n"
    db = ids(project)["db-1"]
    project.succeed("up", "-d", "-t", "0", "-V", "web")
    assert project.succeed("exec", "-T", "web", "ls", "/anonymous") == ""
    assert ids(project)["db-1"] == db
    volumes = project.machine.state / "volumes"
    held = [one.name for one in volumes.iterdir() if re.fullmatch("[0-9a-f]{64}", one.name)]
    project.succeed("rm", "-f", "-s", "-v", "web")
    assert len(held) == 1
    assert not (volumes / held[0]).exists()
    assert list(project.containers()) == ["db-1"]


def test_whose_output_an_attached_up_shows(project: Project) -> None:
    project.write("""
services:
  web: {image: busybox, command: [sh, -c, "echo from web; sleep 0.5; exit 3"], depends_on: [db]}
  db: {image: busybox, init: true, command: [sh, -c, "echo from db; exec sleep 1000"]}
""")
    words = ("up", "-t", "0", "--no-color", "--abort-on-container-exit")
    ran = project.run(*words, "web")
    assert (ran.code, "from web" in ran.out, "from db" in ran.out) == (3, True, False)
    assert {row["State"] for row in project.containers().values()} == {"exited"}
    ran = project.run(*words, "--attach-dependencies", "web")
    assert ("from web" in ran.out, "from db" in ran.out) == (True, True)
    ran = project.run(
        *words, "--attach", "db", "--no-log-prefix", "--timestamps", "--quiet-pull", "--quiet-build", "-y"
    )
    stamped = [line for line in ran.out.splitlines() if line.endswith(" from db")]
    assert stamped
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+", stamped[0])
    assert "from web" not in ran.out
    project.write("services: {db: {image: busybox, command: [sh, -c, 'echo only db']}}")
    assert "only db" in project.run("up", "-t", "0", "--remove-orphans").out
    assert list(project.containers()) == ["db-1"]
    # It has completed, which is what --wait waits for; whoever waits for its end has it run again.
    project.succeed("up", "--wait")
    for reason in (["--abort-on-container-exit"], ["--exit-code-from", "db"]):
        ran = project.run("up", "-t", "0", *reason)
        assert (ran.code, "only db" in ran.out) == (0, True), reason


def test_a_volume_is_made_anew_with_consent(project: Project) -> None:
    text = """
        services: {db: {image: busybox, init: true, command: [sleep, '1000'], volumes: ['data:/data']}}
        volumes: {data: {labels: {of: LABEL}}}
    """
    project.write(text.replace("LABEL", "first"))
    project.succeed("up", "-d")
    project.succeed("exec", "-T", "db", "touch", "/data/kept")
    project.write(text.replace("LABEL", "second"))
    told = project.run("up", "-d", "-t", "0")
    assert (told.code, "volume-differs" in told.err) == (0, True)
    assert project.succeed("exec", "-T", "db", "ls", "/data") == "kept\n"
    told = project.run("--dry-run", "up", "-d", "-y", "-t", "0")
    assert f" DRY-RUN MODE -  Volume {project.name}_data Removed\n" in told.err
    assert project.succeed("exec", "-T", "db", "ls", "/data") == "kept\n"
    project.succeed("up", "-d", "-y", "-t", "0")
    assert project.succeed("exec", "-T", "db", "ls", "/data") == ""


def test_images_of_the_project(project: Project) -> None:
    project.write(PAIR)
    project.succeed("up", "-d")
    rows = json.loads(project.succeed("images", "--format", "json"))
    assert [row["ContainerName"] for row in rows] == [f"{project.name}-db-1", f"{project.name}-web-1"]
    assert len(project.succeed("images", "-q").split()) == 1


def test_a_menu_of_keys(project: Project) -> None:
    from .terminals import Typist

    project.write(PAIR)
    with Typist(project, "up", "--menu", "-t", "0") as typist:
        typist.read_until(b"d Detach")
        # Enter leaves a line free; what is no key tells again which there are.
        typist.type(b"\n")
        typist.read_until(b"\r\n\r\n")
        typist.type(b"?")
        typist.read_until(b"d Detach")
        typist.type(b"\x1b[D")
        typist.read_until(b"d Detach")
        typist.type(b"d")
        assert typist.wait() == 0
    assert {row["State"] for row in project.containers().values()} == {"running"}
    # Without a terminal there is no menu.
    up = project.popen("up", "--menu", "-t", "0", "db")
    read_until(up.stdout, "db-1")
    up.terminate()
    out, err = up.communicate(timeout=60)
    assert "Detach" not in out + err


def test_builds_on_the_way(project: Project) -> None:
    project.write("services: {made: {build: ., command: [cat, /note]}}")
    project.write("FROM busybox\nCOPY note /note\n", "Dockerfile")
    project.write("first", "note")
    image = f"{project.name}-made"
    try:
        # What is not there is built; what is there only if that is asked for.
        assert project.run("create", "--no-build").code == 1
        assert project.succeed("run", "--rm", "-T", "made") == "first"
        project.write("second", "note")
        assert project.succeed("run", "--rm", "-T", "made") == "first"
        assert project.succeed("run", "--rm", "-T", "--build", "made") == "second"
        project.write("third", "note")
        project.succeed("create", "--build")
        project.succeed("start")
        project.wait_until("it has ended", lambda: project.containers()["made-1"]["State"] == "exited")
        # Even a line that was never ended is one.
        assert project.succeed("logs", "--no-log-prefix", "-n", "1") == "third\n"
        assert project.succeed("logs", "--no-log-prefix", "-f") == "third\n"
    finally:
        project.run("down", "-t", "0")
        project.run("image", "rm", image)


def test_names_with_underscores_one_thing_at_a_time(project: Project) -> None:
    project.write(PAIR)
    ran = project.run("--compatibility", "--parallel", "1", "up", "-d")
    assert ran.code == 0, ran.err
    # Nothing begins before what was begun has ended.
    steps = [line.rsplit(None, 1)[1].endswith("ing") for line in ran.err.splitlines() if line.startswith(" ")]
    assert steps == [True, False] * 5
    assert sorted(one.removeprefix(project.name) for one in project.containers()) == ["_db_1", "_web_1"]
    assert project.succeed("logs", "db") == "db_1  | from db\n"
    assert project.succeed("--compatibility", "plan").endswith("nothing to do\n")
