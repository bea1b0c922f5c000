"""What crun and runc say when a container does not start -> one clear error. Imported only when something failed."""

from __future__ import annotations

import re

from orchestrator.errors import EngineError


class StartFailed(EngineError):
    """A container's or an exec's process did not start. `exit_code` is what a shell would give: 126, 127, else 128."""

    code = "start-failed"

    def __init__(
        self, message: str, *, exit_code: int, resource: str = "", operation: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, resource=resource, operation=operation, hint=hint)
        self.exit_code = exit_code


_PATTERNS: tuple[tuple[str, int, str, str], ...] = (
    # (what the runtime says, exit code, our message, hint); {0} is the first group.
    (
        r"executable file [`'\"]?([^`'\"]+)[`'\"]? not found",
        127,
        "{0}: not found in the image's PATH",
        "check command and entrypoint against the programs of the image",
    ),
    (
        r"exec: \\?\"([^\"\\]+)\\?\": (?:executable file not found|stat .*no such file)",
        127,
        "{0}: not found in the image's PATH",
        "check command and entrypoint against the programs of the image",
    ),
    (
        r"exec:? \\?\"?([^\"\\ ]+)\\?\"?: no such file or directory",
        127,
        "{0}: not found, or its interpreter is not in the image",
        "a script names its interpreter after #!; a dynamic program needs its loader",
    ),
    (
        r"(?:stat|open|exec) [`'\"]?(/[^`'\":]*)[`'\"]?: No such file or directory",
        127,
        "{0}: not found in the image",
        "check command and entrypoint against the programs of the image",
    ),
    (
        r"error while loading shared libraries: ([^:]+):",
        128,
        "the OCI runtime cannot be loaded: {0} is missing",
        "apt-get install --reinstall brings it back, with the name of the package that `stack doctor` shows as missing",
    ),
    (r"open executable: No such file", 127, "the command is not in the image", "check command and entrypoint"),
    (
        r"(?i)exec format error",
        126,
        "the command is not a program for this machine",
        "the image may be for another architecture; a script needs a #! line",
    ),
    (
        r"(?:exec:? |exec: )\\?\"?([^\"\\ ]+)\\?\"?: permission denied",
        126,
        "{0}: not executable",
        "set its executable bit in the image, or run it through its interpreter",
    ),
    (
        r"(?:open|stat|exec)[^:]*[`'\"](/[^`'\"]*)[`'\"]: Permission denied",
        126,
        "{0}: not executable",
        "set its executable bit in the image, or run it through its interpreter",
    ),
    (
        r"the path [`'\"]([^`'\"]+)[`'\"] exists but it is not executable",
        126,
        "{0}: not executable",
        "set its executable bit in the image, or run it through its interpreter",
    ),
    (
        r"(?i)open executable: (?:permission denied|is a directory)",
        126,
        "the command is not executable",
        "set its executable bit in the image, or run it through its interpreter",
    ),
    (r"(?i)is a directory", 126, "the command is a directory", "check command and entrypoint"),
    (
        r"(?i)(?:chdir|cwd)[^`'\"]*[`'\"]?(/[^`'\" :]*)",
        127,
        "the working directory {0} cannot be entered",
        "check working_dir and the user's right to enter it",
    ),
    (
        r"(?i)cgroups? in hybrid mode not supported",
        128,
        "crun cannot use this host's mixture of control groups v1 and v2",
        "install runc, or boot with systemd.unified_cgroup_hierarchy=1",
    ),
    (
        r"(?i)(?:setrlimit|rlimit).*",
        128,
        "a limit under ulimits cannot be set",
        "this process may not raise it above its own hard limit",
    ),
    (
        r"(?i)write[^/]*/proc/sys/([^`'\": ]+)[^:]*: (.*)",
        128,
        "the sysctl {0} cannot be set: {1}",
        "check sysctls; not every setting belongs to a container",
    ),
    (
        r"(?i)mount(?:ing)? [`'\"]?([^`'\" ]+)[`'\"]? (?:to rootfs at|to|at) [`'\"]?/?([^`'\" :]+)[`'\"]?.*?: ([^:]+)$",
        128,
        "{0} cannot be mounted at /{1}: {2}",
        "check that the source exists and that source and target are both files or both directories",
    ),
)


def explain_failure(text: str, resource: str, operation: str) -> StartFailed:
    """The error for a runtime's message; what is not recognised is shown as the runtime said it."""
    message = _clean(text)
    for pattern, code, words, hint in _PATTERNS:
        found = re.search(pattern, message, re.MULTILINE)
        if found:
            said = words.format(*found.groups())
            return StartFailed(f"{resource}: {said}", exit_code=code, resource=resource, operation=operation, hint=hint)
    said = message or "the runtime failed without a message"
    return StartFailed(f"{resource}: {said}", exit_code=128, resource=resource, operation=operation)


def _read_json_message(line: str) -> str:
    import json

    try:
        return str(json.loads(line).get("msg", line))
    except ValueError:
        return line


def _clean(text: str) -> str:
    """The message proper: out of runc's ``level=error msg="..."`` or a JSON line, without repetitions."""
    lines: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or "level=warning" in line or '"level":"warning"' in line:
            continue
        if line.startswith("{"):
            line = _read_json_message(line)
        elif "level=" in line and 'msg="' in line:
            line = line.partition('msg="')[2].rstrip('"').replace('\\"', '"')
        for prefix in (
            "runc run failed: ",
            "runc create failed: ",
            "exec failed: ",
            "unable to start container process: ",
            "error during container init: ",
        ):
            line = line.removeprefix(prefix)
        if line not in lines:
            lines.append(line)
    return "\n".join(lines)
