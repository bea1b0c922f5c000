"""From the files of a stack to one canonical tree: read, interpolate, shape, extend, include, merge, in this order."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.errors import FileMissing, StackError
from orchestrator.source import Path
from orchestrator.spec.attributes import ROOT
from orchestrator.spec.casts import name_type
from orchestrator.spec.dotenv import parse_dotenv
from orchestrator.spec.extends import Extender
from orchestrator.spec.include import apply_includes
from orchestrator.spec.interpolate import interpolate_tree
from orchestrator.spec.merge import clear_paths, count_values, drop_extending_nulls, drop_nulls, merge_layers
from orchestrator.spec.normalize import apply_defaults, resolve_names
from orchestrator.spec.paths import absolute_path, resolve_paths
from orchestrator.spec.positions import Map, Mark, Problems, pack_mark
from orchestrator.spec.reader import fetch_remote, names_remote
from orchestrator.spec.schema import shape_layer
from orchestrator.spec.yaml import extract_merge_tags, has_merge_tags, parse_documents

if TYPE_CHECKING:
    from orchestrator.spec.reader import Reader

Environment = Mapping[str, str]

_COST_OF_FILE = 50
_TEXT_OF_VALUE = 50
"""What reading a file costs, and how much text costs as much as one value, in terms of Problems.spend."""


class LayerLoader:
    """Loads stacks, and what they extend and include; all diagnostics go to `problems`.

    `project_directory` is what relative paths are shown against when `resolve` is off.
    """

    def __init__(
        self,
        reader: Reader,
        problems: Problems,
        *,
        home: str,
        cwd: str,
        project_directory: str,
        interpolate: bool = True,
        resolve: bool = True,
    ) -> None:
        self.reader = reader
        self.problems = problems
        self.home = home
        self.interpolate = interpolate
        self.resolve = resolve
        self.loaded: list[str] = []
        self.variables: set[str] = set()
        # What was fetched for includes and extends, as it was written.
        self.remotes: list[str] = []
        # What an include's own variables hold, for the secrets and configs that name them: section, key, variable.
        self.included_values: dict[tuple[str, str, str], str] = {}
        # The variables that env files of included services see, by service: those of the innermost include.
        self.included_variables: dict[str, Environment] = {}
        self._cwd = cwd
        self._project_directory = project_directory
        self._documents: dict[str, list[tuple[Any, Mark]]] = {}
        self._sizes: dict[str, int] = {}
        self._tagged: dict[str, bool] = {}

    def load_stack_files(
        self,
        files: list[tuple[str, Mark, Path]],
        directory: str,
        environment: Environment,
        included: tuple[str, ...] = (),
    ) -> Map:
        """Load and merge `files` (absolute paths with the place that names them) into one canonical tree."""
        result: Map | None = None
        for file, mark, path in files:
            for tree, cleared in self._load_layers(file, mark, path, directory, environment, included, result):
                result = tree if result is None else merge_layers(clear_paths(result, cleared), tree, self.problems)
        merged = Map() if result is None else result
        apply_defaults(merged, directory if self.resolve else ".")
        resolve_names(merged, environment)
        return merged

    def _load_layers(
        self,
        file: str,
        mark: Mark,
        path: Path,
        directory: str,
        environment: Environment,
        included: tuple[str, ...],
        base: Map | None,
    ) -> list[tuple[Map, list[Path]]]:
        layers = []
        for raw, place in self.read_documents(file, mark, path):
            tree, cleared = extract_merge_tags(raw) if self._tagged[file] else (raw, [])
            if tree is None:
                continue
            if type(tree) is not Map:
                self.problems.report("wrong-type", f"a stack file is a mapping, not {name_type(tree)}", place)
                continue
            tree = self.substitute(tree, place, environment)
            if base is not None:
                tree = drop_nulls(ROOT, base, tree)
            tree = drop_extending_nulls(tree)
            shaped = shape_layer(tree, place, self.problems)
            if "version" in shaped:
                self.problems.warn(
                    "obsolete-version",
                    "the attribute version is obsolete and has no effect",
                    shaped.marks["version"][0],
                    ("version",),
                    "remove it",
                )
                del shaped["version"]
            Extender(self, environment).extend_services(file, shaped, cleared, directory)
            self.resolve_tree(shaped, directory)
            apply_includes(self, shaped, directory, environment, (*included, file))
            layers.append((shaped, cleared))
        return layers

    def substitute(self, tree: Any, mark: Mark, environment: Environment) -> Any:
        """Interpolate `tree` from `environment`, unless interpolation is off."""
        if not self.interpolate:
            return tree
        return interpolate_tree(tree, mark, environment.get, self.problems, self.variables)

    def resolve_tree(self, tree: Map, directory: str) -> None:
        """Make the paths of `tree` absolute; when that is off, leave those of the project and adapt those of others."""
        if self.resolve:
            resolve_paths(tree, directory, self.home)
        elif directory != self._project_directory:
            resolve_paths(tree, posixpath.relpath(directory, self._project_directory), "")

    def locate_file(self, path: str, directory: str) -> str:
        """Return the absolute path of a file that a stack file names."""
        return absolute_path(path, directory, self.home)

    def find_file(self, name: str, directory: str, mark: Mark, path: Path) -> str | None:
        """Return the local file that a stack file names: remote ones are fetched. None for what has been reported."""
        file = self.locate_file(name, directory)
        if not names_remote(self.reader, name, file):
            return file
        self.remotes.append(name)
        try:
            return fetch_remote(self.reader, name)
        except StackError as error:
            code = "unsupported-include" if path[0] == "include" else "unsupported-extends"
            self.problems.report(
                code if type(error) is FileMissing else error.code, error.message, mark, path, error.hint
            )
            return None

    def display_name(self, file: str) -> str:
        """Return `file` as diagnostics show it: relative to the working directory where that is shorter."""
        prefix = self._cwd.rstrip("/") + "/"
        return file[len(prefix) :] if file.startswith(prefix) else file

    def read_documents(self, file: str, mark: Mark, path: Path) -> list[tuple[Any, Mark]]:
        """Return the parsed documents of `file`; each file is read and parsed once."""
        known = self._documents.get(file)
        if known is not None:
            # A file that is included again and again is merged again and again.
            self.problems.spend(self._sizes[file], mark, path)
        else:
            text = self.read_text(file, mark, path, "the stack file")
            known = []
            if text is not None:
                self._tagged[file] = has_merge_tags(text)
                self.loaded.append(file)
                index = self.problems.register_file(self.display_name(file))
                known = parse_documents(text, index, self.problems)
            self._documents[file] = known
            self._sizes[file] = _COST_OF_FILE + sum(count_values(tree) for tree, _ in known)
            self.problems.spend(self._sizes[file], mark, path)
        return known

    def list_trees(self) -> list[Any]:
        """Return the trees of all documents that were read, as they were written."""
        return [tree for documents in self._documents.values() for tree, _ in documents]

    def substitute_path(self, text: str, mark: Mark, environment: Environment) -> str:
        """Return the path `text` with its variables substituted also when interpolation is off: files must be found."""
        if self.interpolate or "$" not in text:
            return text
        found: str = interpolate_tree(text, mark, environment.get, self.problems, self.variables)
        return found

    def is_tagged(self, file: str) -> bool:
        """Tell whether a file that was read may hold ``!reset`` or ``!override``."""
        return self._tagged.get(file, False)

    def read_text(self, file: str, mark: Mark, path: Path, what: str) -> str | None:
        """Read a file; None when it cannot be read, which is reported at `mark`."""
        try:
            return self.reader.read_text(file)
        except (FileNotFoundError, NotADirectoryError):
            self.problems.report(
                FileMissing.code, f"{what} {self.display_name(file)} does not exist", mark, path, "check the path"
            )
        except IsADirectoryError:
            self.problems.report("unreadable-file", f"{self.display_name(file)} is a directory, not a file", mark, path)
        except OSError as error:
            self.problems.report(
                "unreadable-file", f"{self.display_name(file)} cannot be read: {error.strerror}", mark, path
            )
        except UnicodeDecodeError as error:
            index = self.problems.register_file(self.display_name(file))
            before = error.object[: error.start]
            line = before.count(b"\n") + 1
            self.problems.report(
                "not-utf8",
                f"{what} is not UTF-8 text (byte {error.start})",
                pack_mark(index, line, error.start - before.rfind(b"\n")),
                path,
                "save it as UTF-8",
            )
        return None

    def report_empty_path(self, what: str, mark: Mark, path: Path) -> None:
        """Report a path that is an empty text."""
        hint = "an unset variable becomes empty; give it a default: ${NAME:-value}"
        self.problems.report(FileMissing.code, f"the path of {what} is empty", mark, path, hint)

    def read_env_file(
        self, file: str, lookup: Any, mark: Mark, path: Path, *, raw: bool = False, required: bool = True
    ) -> dict[str, tuple[str, Mark]]:
        """Read and parse an env file; one that is not required may be missing."""
        if not required and self.reader.find_kind(file) is None:
            return {}
        text = self.read_text(file, mark, path, "the env file")
        if text is None:
            return {}
        index = self.problems.register_file(self.display_name(file))
        self.problems.spend(_COST_OF_FILE + len(text) // _TEXT_OF_VALUE, mark, path)
        return parse_dotenv(text, index, self.problems, lookup, raw=raw)
