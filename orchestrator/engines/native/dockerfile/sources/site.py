"""What everything that reads or copies files in one build has in common: where it may write, and what is remembered."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.engines.native.dockerfile.sources.hashing import HashCache, HashTable

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.sources.git_login import GitLogin
    from orchestrator.engines.native.dockerfile.sources.views import Rules
    from orchestrator.engines.native.images.content import Cancel
    from orchestrator.engines.native.images.store import ImageStore

_T = TypeVar("_T")


class SourceRoot:
    """A directory that files are taken from, as one origin of a step sees it.

    `name` is what messages call it (``the build context``, ``stage "build"``). Files of a local build context belong
    to 0:0 whoever owns them here (`own` is False); stages, images and archives keep their owners. `ignore` hides
    files, `ignore_name` is the file that says so. `identity`, if not empty, names the exact content (a layer chain, a
    commit): digests are remembered by it, and `path` is asked for only when something has to be copied.
    """

    def __init__(
        self,
        path: Path | Callable[[], Path],
        *,
        name: str = "the build context",
        own: bool = True,
        ignore: Rules | None = None,
        ignore_name: str = "",
        identity: str = "",
    ) -> None:
        """`path` may be a function that makes the directory be there (mounts it); it is called every time."""
        self._path = path
        self.name = name
        self.own = own
        self.ignore = ignore
        self.ignore_name = ignore_name
        self.identity = identity

    @property
    def path(self) -> Path:
        """The directory."""
        return self._path() if callable(self._path) else self._path


class BuildSite:
    """The surroundings of one build; shared by its threads. Making one does no I/O; `close` writes what was learned.

    `workspace` is removed after the build by whoever made it and stands on the file system of the image store;
    `cache` is kept between builds (content digests, downloads). `tell` gives a context for slow work
    (``downloading ...``). `cancel` is asked now and then. `login` is what the build was given for repositories that its
    Dockerfile names; None: whatever the user has.
    """

    def __init__(
        self,
        workspace: Path,
        cache: Path,
        *,
        store: ImageStore | None = None,
        tell: Callable[[str], AbstractContextManager[object]] | None = None,
        cancel: Cancel | None = None,
        login: GitLogin | None = None,
    ) -> None:
        self.workspace = workspace
        self.cache = cache
        self.store = store
        self.cancel = cancel
        self.login = login
        self._tell = tell
        self.hashes = HashCache(cache / "hashes")
        self._known: dict[object, Any] = {}
        self._lock = Lock()

    def tell(self, text: str) -> AbstractContextManager[object]:
        """What takes its time, while the context lasts."""
        return nullcontext() if self._tell is None else self._tell(text)

    def check_cancel(self) -> None:
        """Raise TransferCancelled if the build is to stop."""
        if self.cancel is not None:
            from orchestrator.engines.native.images.content import check_cancel

            check_cancel(self.cancel)

    def make_folder(self, name: str) -> Path:
        """A fresh folder of the workspace, with the mode of a root directory."""
        folder = self.workspace / f"{name}-{os.urandom(4).hex()}"
        folder.mkdir(mode=0o755)
        os.chmod(folder, 0o755)  # whatever the umask
        return folder

    def open_table(self, root: str) -> HashTable:
        """The digests of the files below `root`; those of a folder that goes with the build are not kept."""
        kept = not root.startswith(f"{self.workspace}/")
        return self.hashes.open_table(root, kept=kept)

    def remember(self, key: object, make: Callable[[], _T]) -> _T:
        """What `make` gave the first time: within one build the web and repositories do not change."""
        with self._lock:
            if key in self._known:
                return self._known[key]  # type: ignore[no-any-return]
        made = make()
        with self._lock:
            return self._known.setdefault(key, made)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Write down the digests that were computed. Never raises: they can be computed again."""
        self.hashes.save()
