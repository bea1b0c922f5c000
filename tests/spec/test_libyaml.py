"""PyYAML's parser in C without the rest of PyYAML: the same events and errors, and nothing that others would miss."""

from __future__ import annotations

import subprocess
import sys

import pytest

WRONG = ("a: [1", "a: \x01", "a: 1\n\tb: 2", "%YAML 9\n---\n", "a: 'x", "&a a: *b", "a: !<x y", "\ud800")

READ = """
import sys
{before}
from orchestrator.spec.libyaml import load_parser
parser, events, syntax_error = load_parser()
for text in {texts!r}:
    found = []
    try:
        one = parser(text)
        while one.check_event():
            found.append(type(one.get_event()).__name__)
    except syntax_error as error:
        mark = getattr(error, "problem_mark", None)
        found.append((type(error).__name__, getattr(error, "problem", ""), mark and (mark.line, mark.column)))
    except UnicodeError as error:
        found.append("unicode")
    print(found)
print("whole" if "yaml" in sys.modules else "alone")
"""


def read(before: str) -> list[str]:
    texts = ["a: 1", "- &x {b: [c]}\n- *x", "--- |\n text\n...\n--- x", *WRONG]
    code = READ.format(before=before, texts=texts)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_alone_it_reads_as_the_whole_does() -> None:
    alone, whole = read(""), read("import yaml")
    assert (alone[-1], whole[-1]) == ("alone", "whole")
    assert alone[:-1] == whole[:-1]


BEGUN = "import yaml.nodes"
OTHER = """
import importlib.abc
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "yaml.tokens" and not hasattr(sys.modules["yaml"], "__file__"):
            raise ImportError(name)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("before", [BEGUN, OTHER], ids=["begun", "other"])
def test_another_pyyaml_is_imported_whole(before: str) -> None:
    assert read(before)[-1] == "whole"


def test_what_comes_later_gets_all_of_pyyaml() -> None:
    code = (
        "from orchestrator.spec.libyaml import load_parser; load_parser(); import yaml;"
        "assert yaml.safe_load('a: 2001-01-01')['a'].year == 2001;"
        "assert yaml.load('a: [1, .5]', Loader=yaml.CSafeLoader) == {'a': [1, .5]};"
        "assert yaml.dump({'a': b'x'}) and yaml.reader.Reader and yaml.YAMLError is load_parser()[2]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
