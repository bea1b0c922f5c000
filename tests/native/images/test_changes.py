from __future__ import annotations

from typing import Any

import pytest

from orchestrator.engines.native.images.changes import apply_changes
from orchestrator.engines.native.images.failures import InvalidChange


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['CMD ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
        (["CMD echo hi"], {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        (['SHELL ["/bin/bash", "-c"]', "CMD x"], {"Shell": ["/bin/bash", "-c"], "Cmd": ["/bin/bash", "-c", "x"]}),
        (['entrypoint ["/init"]'], {"Entrypoint": ["/init"]}),
        (['CMD=["x"]'], {"Cmd": ["x"]}),
        (["ENV A=1 B='two words'", "ENV A=3"], {"Env": ["A=3", "B=two words"]}),
        (["ENV A the rest"], {"Env": ["A=the rest"]}),
        (["EXPOSE 80 53/udp 90-91"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}}),
        (["USER app:app"], {"User": "app:app"}),
        (["WORKDIR /srv", "WORKDIR app"], {"WorkingDir": "/srv/app"}),
        (['LABEL a=1 "b c"=2'], {"Labels": {"a": "1", "b c": "2"}}),
        (['VOLUME ["/a", "/b"]', "VOLUME /c"], {"Volumes": {"/a": {}, "/b": {}, "/c": {}}}),
        (["STOPSIGNAL SIGQUIT"], {"StopSignal": "SIGQUIT"}),
        (["ONBUILD RUN make"], {"OnBuild": ["RUN make"]}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (
            ["HEALTHCHECK --interval=1m30s --timeout=5s --start-period=2s --retries=4 CMD test -f /ok"],
            {
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "test -f /ok"],
                    "Interval": 90 * 10**9,
                    "Timeout": 5 * 10**9,
                    "StartPeriod": 2 * 10**9,
                    "Retries": 4,
                }
            },
        ),
        (['HEALTHCHECK CMD ["a"]'], {"Healthcheck": {"Test": ["CMD", "a"]}}),
    ],
)
def test_applies(changes: list[str], expected: dict[str, Any]) -> None:
    assert apply_changes({}, changes) == expected


@pytest.mark.parametrize(
    "change",
    [
        *("RUN x", "CDM x", "", "ENV", "ENV x", "EXPOSE 99999", "EXPOSE 9-8", "EXPOSE 80/icmp", "STOPSIGNAL NOPE"),
        *("HEALTHCHECK x", "HEALTHCHECK --retries=x CMD y", "HEALTHCHECK --bad=1 CMD y", "ONBUILD FROM x"),
        *("HEALTHCHECK --interval=5 CMD y", "VOLUME ''", 'LABEL "a', "SHELL bash"),
    ],
)
def test_refuses(change: str) -> None:
    with pytest.raises(InvalidChange):
        apply_changes({}, [change])


def test_names_the_nearest_instruction() -> None:
    with pytest.raises(InvalidChange) as caught:
        apply_changes({}, ["ENTRYPONT x"])
    assert "ENTRYPOINT" in caught.value.hint
