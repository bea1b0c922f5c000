"""The pipes that the output of a RUN step comes through."""

from __future__ import annotations

import codecs
import os


class OutputPipe:
    """One pipe of the command, decoded as it comes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read, self.write = os.pipe2(os.O_CLOEXEC)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def take(self) -> tuple[str, bool]:
        """What has come, and whether it was the last."""
        data = os.read(self.read, 65536)
        return self._decode(data, not data), not data

    def close_write(self) -> None:
        os.close(self.write)

    def close_read(self) -> None:
        os.close(self.read)
