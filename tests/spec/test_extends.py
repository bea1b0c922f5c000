"""``extends``: the same file, other files, chains, paths, circles."""

from __future__ import annotations


def test_a_service_of_the_same_file_is_the_base(load):
    web = load(
        """
        services:
          base: {image: a, environment: {A: "1", B: "1"}, profiles: [never]}
          web: {extends: base, environment: {B: "2"}}
        """,
        profiles=("never",),
    ).stack.services["web"]
    assert web.image == "a"
    assert web.environment == {"A": "1", "B": "2"}


def test_another_file_brings_its_own_directory_and_is_not_checked_as_a_whole(load):
    loaded = load(
        """
        services:
          web:
            extends: {file: common/base.yaml, service: base}
            volumes: ["./mine:/mine"]
        """,
        more={
            "/app/common/base.yaml": """
                services:
                  base:
                    extends: {file: ../deeper/root.yaml, service: root}
                    build: ./here
                    env_file: base.env
                    volumes: ["./theirs:/theirs"]
                  broken: {nonsense: true}
                """,
            "/app/common/base.env": "FROM_FILE=yes\n",
            "/app/deeper/root.yaml": "services: {root: {image: r, volumes: ['./root:/root']}}",
        },
    )
    web = loaded.stack.services["web"]
    assert [mount.source for mount in web.volumes] == ["/app/deeper/root", "/app/common/theirs", "/app/mine"]
    assert web.build.context == "/app/common/here"
    assert web.environment == {"FROM_FILE": "yes"}
    assert str(loaded.stack.sources.locate(("services", "web", "volumes", 1))) == "common/base.yaml:7:15"


def test_reset_also_removes_what_the_base_brings(load):
    web = load(
        """
        services:
          base: {image: a, ports: ["80:80"], labels: {a: "1"}}
          web: {extends: {service: base}, ports: !reset []}
        """
    ).stack.services["web"]
    assert web.ports == ()
    assert web.labels == {"a": "1"}


def test_extending_twice_does_not_mix_the_two(load):
    services = load(
        """
        services:
          db: {image: d}
          base: {image: a, depends_on: [db]}
          one: {extends: base, links: [extra]}
          two: {extends: base}
          extra: {image: e}
        """
    ).stack.services
    assert sorted(services["one"].depends_on) == ["db", "extra"]
    assert sorted(services["two"].depends_on) == ["db"]
    assert sorted(services["base"].depends_on) == ["db"]


def test_what_cannot_be_extended(refuse):
    assert refuse(
        """
        services:
          a: {extends: b}
          b: {extends: c}
          c: {extends: a}
          d: {image: i, extends: bb}
          e: {image: i, extends: {service: x, file: gone.yaml}}
        """
    ) == [
        "3:16 extends-cycle services.a.extends",
        "6:26 unknown-service services.d.extends",
        "7:45 file-not-found services.e.extends.file",
    ]
