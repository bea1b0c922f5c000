"""Go templates: what people write behind ``--format``."""

from __future__ import annotations

import pytest

from orchestrator.cli.gofunctions import TemplateError
from orchestrator.cli.gotemplate import parse_template, render_nodes
from orchestrator.cli.template import render_rows
from orchestrator.errors import UsageError

ROW = {
    "Name": "web-1",
    "State": "running",
    "ExitCode": 0,
    "Labels": "a=1,b=x,y,c.d=z",
    "Publishers": [
        {"URL": "127.0.0.1", "TargetPort": 80, "Protocol": "tcp"},
        {"URL": "::1", "TargetPort": 53, "Protocol": "udp"},
    ],
    "Empty": [],
    "Missing": None,
}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("{{.Name}} is {{ .State }}", "web-1 is running"),
        ("{{json .Name}}", '"web-1"'),
        ("{{.Name | upper}}|{{lower .State | title}}", "WEB-1|Running"),
        ("{{.ExitCode}} {{index .Publishers 0}}", "0 map[Protocol:tcp TargetPort:80 URL:127.0.0.1]"),
        ('{{.Label "b"}}/{{.Label "c.d"}}/{{.Label "none"}}', "x,y/z/"),
        ("{{range .Publishers}}{{.TargetPort}}/{{.Protocol}} {{end}}", "80/tcp 53/udp "),
        ("{{range $i, $p := .Publishers}}{{if $i}},{{end}}{{$p.URL}} {{$.Name}}{{end}}", "127.0.0.1 web-1,::1 web-1"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ('{{if eq .State "exited" "running"}}up{{else}}down{{end}}', "up"),
        ('{{if .ExitCode}}a{{else if eq .Name "web-1"}}b{{else}}c{{end}}', "b"),
        ("{{if and .Name (not .ExitCode)}}yes{{end}}", "yes"),
        ("{{with .Name}}<{{.}}>{{end}}{{with .Empty}}x{{end}}", "<web-1>"),
        ('{{printf "%-8s|%5d|%q|%v|%.3s" .Name 7 .State true .State}}', 'web-1   |    7|"running"|true|run'),
        ("{{.Missing.Deep}}{{(index .Publishers 0).Nothing.Deeper}}", "<no value><no value>"),
        ('{{printf "%s!" .Name | printf "%s?"}}', "web-1!?"),
        ("{{len .Publishers}} {{(index .Publishers 1).TargetPort}} {{(index .Publishers 0).URL}}", "2 53 127.0.0.1"),
        ('{{join (split .Name "-") "+"}} {{truncate .Name 3}} {{slice .Name 1 3}}', "web+1 web eb"),
        ("{{$n := .Name}}{{$n}}{{$n}}", "web-1web-1"),
        ("a  {{- .Name -}}  b {{/* nothing */}}c", "aweb-1b c"),
        ("{{`{{`}}{{\"}}\"}}", "{{}}"),
        ("{{gt 3 2}} {{le 3 2}} {{ne .Name .State}} {{or .Empty .Name}}", "true false true web-1"),
    ],
)  # fmt: skip
def test_what_is_rendered(form: str, text: str) -> None:
    assert render_nodes(parse_template(form), ROW) == text


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{{.Nam}}", "there is no field .Nam"),
        ("{{.Name.First}}", "there is no field .First in 'web-1'"),
        ("{{$.Name.First}}", "there is no field .First in 'web-1'"),
        ("{{nope .Name}}", "there is no function nope"),
        ("{{.Name", "{{ is not closed"),
        ("{{range .Publishers}}", "{{range}} has no {{end}}"),
        ("{{end}}", "{{end}} has nothing to end"),
        ("{{$x}}", "there is no variable $x"),
        ("{{index .Publishers 7}}", "index: list index out of range"),
        ("{{.Name .State}}", "cannot read {{.Name .State}}"),
        ("{{(.Name}}", "( is not closed in {{(.Name}}"),
        ("{{range .Name}}{{end}}", "range: 'web-1' is no list"),
        ("{{}}", "cannot read {{}}"),
        ('{{printf "%z" 1}}', "printf: there is no verb %z"),
    ],
)
def test_what_is_refused(form: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render_nodes(parse_template(form), ROW)
    assert str(caught.value) == message


def test_tables_have_the_titles_of_their_fields() -> None:
    shown = render_rows(r"table {{upper .Name}}\t{{range .Publishers}}{{.TargetPort}} {{end}}", {"Name": "NAME"}, [ROW])
    assert shown == "NAME      PUBLISHERS\nWEB-1     80 53\n"
    assert render_rows("{{.}}", {}, [{"a": 1}]) == '{"a":1}\n'
    with pytest.raises(UsageError) as caught:
        render_rows("{{.Nam}}", {}, [ROW])
    assert "there are Name" in caught.value.hint
