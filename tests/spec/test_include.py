"""``include``: directories, variables, overrides, conflicts, circles."""

from __future__ import annotations

import pytest

from orchestrator.errors import FileMissing, StackError


def test_an_included_stack_has_its_own_directory_and_variables(load):
    stack = load(
        """
        include: [infra/compose.yaml]
        services:
          web: {image: "w:${TAG}", depends_on: [db]}
        """,
        more={
            "/app/.env": "TAG=outer\n",
            "/app/infra/.env": "TAG=inner\nONLY=here\n",
            "/app/infra/compose.yaml": """
                services:
                  db:
                    image: "d:${TAG}-${ONLY}"
                    volumes: ["./data:/data"]
                    networks: [back]
                networks: {back: {}}
                """,
        },
    ).stack
    assert stack.services["db"].image == "d:outer-here"
    assert stack.services["db"].volumes[0].source == "/app/infra/data"
    assert stack.networks["back"].name == "app_back"
    assert str(stack.sources.locate(("services", "db", "networks"))) == "infra/compose.yaml:6:5"


def test_the_long_form_takes_several_files_an_env_file_and_a_directory(load):
    stack = load(
        """
        include:
          - path: [infra/a.yaml, infra/b.yaml]
            env_file: infra/other.env
            project_directory: elsewhere
        services: {web: {image: w}}
        """,
        more={
            "/app/infra/a.yaml": "services: {db: {image: 'd:${TAG}', build: ./ctx, secrets: [key]}}\n"
            "secrets: {key: {environment: KEY}}",
            "/app/infra/b.yaml": "services: {db: {environment: {B: '1'}}}",
            "/app/infra/other.env": "TAG=x\nKEY=of the include\n",
            "/app/elsewhere/some.file": "",
        },
    ).stack
    assert stack.services["db"].image == "d:x"
    assert stack.services["db"].environment == {"B": "1"}
    assert stack.services["db"].build.context == "/app/elsewhere/ctx"
    assert stack.secrets["key"].value == "of the include"


def test_conflicts_and_circles_are_reported_with_both_places(refuse):
    assert refuse(
        """
        include: [other.yaml, circle.yaml]
        services: {web: {image: w}}
        """,
        more={
            "/app/other.yaml": "services: {web: {image: different}}",
            "/app/circle.yaml": "include: [compose.yaml]\nservices: {x: {image: x}}",
        },
    ) == ["2:11 include-conflict include[0]", "1:11 include-cycle include[0]"]


def test_the_same_definition_twice_is_no_conflict(load):
    stack = load(
        "include: [other.yaml]\nservices: {web: {image: w}}\nnetworks: {a: {}}",
        more={"/app/other.yaml": "services: {x: {image: x, networks: [a]}}\nnetworks: {a: {}}"},
    ).stack
    assert set(stack.services) == {"web", "x"}


def test_a_missing_file_is_a_missing_file(load):
    with pytest.raises(FileMissing, match=r"gone\.yaml"):
        load("include: [gone.yaml]\nservices: {web: {image: w}}")


def test_files_that_include_each_other_over_and_over_are_bounded(load):
    more = {
        f"/app/f{i}.yaml": f"include: [f{i + 1}.yaml, ./f{i + 1}.yaml]\nservices: {{s{i}: {{image: a}}}}\n"
        for i in range(25)
    }
    more["/app/f25.yaml"] = "services: {end: {image: a}}\n"
    with pytest.raises(StackError) as caught:
        load("include: [f0.yaml]\n", more)
    assert [one.code for one in caught.value.diagnostics] == ["too-many-values"]


def test_what_is_not_a_local_file_is_refused_at_its_line(refuse):
    assert refuse(
        """
        include:
          - https://example.com/a.yaml
          - oci:registry/stack:1
        services:
          web: {extends: {file: "git@host:x.git", service: web}}
        """
    ) == [
        "3:5 unsupported-include include[0]",
        "4:5 unsupported-include include[1]",
        "6:25 unsupported-extends services.web.extends.file",
    ]


def test_files_are_found_also_when_variables_are_left_alone(load):
    more = {"/app/sub/a.yaml": "services: {a: {image: '$TAG'}}\n", "/app/sub/.env": "TAG=2\n"}
    stack = load("include: ['${DIR:-sub}/a.yaml']\n", more, interpolate=False).stack
    assert stack.tree["services"]["a"]["image"] == "$TAG"


def test_env_files_of_an_included_service_see_the_variables_of_the_include(load):
    stack = load(
        """
        include: [{path: sub/compose.yaml, env_file: values.env}]
        services: {web: {image: w, env_file: web.env}}
        """,
        more={
            "/app/.env": "OUTER=outer\n",
            "/app/values.env": "VAR=1\nOUTER=inner\n",
            "/app/web.env": "SEEN=${VAR:-nothing}\n",
            "/app/sub/compose.yaml": "services: {app: {image: a, env_file: app.env}}",
            "/app/sub/app.env": "MINE=${VAR?}\nTHEIRS=${OUTER}\n",
        },
    ).stack
    assert stack.services["app"].environment == {"MINE": "1", "THEIRS": "outer"}
    assert stack.services["web"].environment == {"SEEN": "nothing"}
