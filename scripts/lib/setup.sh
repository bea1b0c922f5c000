# Sourced by the scripts in this folder: talking to the person, installing what is missing, the virtual environment.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=$REPOSITORY/.venv
LOCK=$REPOSITORY/requirements-ci.lock

say() { printf '%s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '  hint: %s\n' "$hint" >&2; done
    exit 1
}

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Containers need root (networks, mounts), and so does apt-get; without sudo nothing below can work.
check_can_become_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null ||
        fail "this needs root, you are $(id -un), and there is no sudo here" "run it as root: su -c '$0'"
    # A password prompt is fine on a terminal; without one, sudo has to work unasked.
    if [ -t 0 ]; then
        sudo -v || fail "this needs root, and sudo refused $(id -un)" "ask for sudo rights, or run it as root: su -c '$0'"
    else
        sudo -n true 2>/dev/null ||
            fail "this needs root, and sudo does not let $(id -un) run commands without a password here" \
                "run it on a terminal, or as root"
    fi
}

check_distribution() {
    command -v apt-get >/dev/null || fail "this script installs packages with apt-get, which is not here" \
        "on other systems install Python 3.11 or newer, crun or runc, conmon, libnftables, libseccomp and busybox yourself, then: pip install ."
}

has_package() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
# Not grep -q: it ends at the first match, and with pipefail the SIGPIPE that ldconfig then gets would count as "not there".
has_library() { PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | grep "$1" >/dev/null; }
has_command() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

python_is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Sets PYTHON: the system's own interpreter when it is new enough, otherwise the first one on PATH that is.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && python_is_new_enough "$candidate"; then
            PYTHON=$candidate
            return
        fi
    done
    PYTHON=
}

# Prints the packages of a running engine that are not there yet, one a line.
missing_engine_packages() {
    find_python
    if [ -z "$PYTHON" ]; then
        printf 'python3\npython3-venv\n'
    elif ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        # The package has to fit the interpreter that was found: python3-venv serves the system's, python3.12-venv that one.
        if [ "$PYTHON" = /usr/bin/python3 ]; then printf 'python3-venv\n'; else printf '%s-venv\n' "${PYTHON##*/}"; fi
    fi
    if ! has_command crun && ! has_command runc; then
        # crun starts faster, but refuses hosts whose cgroup hierarchies are mixed; runc takes them all.
        if [ "$(stat -fc %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; then printf 'crun\n'; else printf 'runc\n'; fi
    fi
    has_command conmon || printf 'conmon\n'
    has_library 'libnftables\.so\.1' || printf 'libnftables1\n'
    has_library 'libseccomp\.so\.2' || printf 'libseccomp2\n'
    # `init: true` needs a program for process 1.
    has_command catatonit || has_command tini-static || has_command tini || has_command docker-init || printf 'catatonit\n'
    has_package busybox-static || printf 'busybox-static\n'
}

# install_packages NAME...: says so, then does it.
install_packages() {
    [ $# -gt 0 ] || return 0
    say "Installing system packages with apt-get: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
        say "apt-get update reported a problem; going on with the package lists that are here"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install: $*" "see the messages above; the apt sources of this machine have to offer these packages"
}

venv_key() {
    { cat "$REPOSITORY/pyproject.toml" "$LOCK"; echo "$VENV $1"; "$PYTHON" --version; } | sha256sum | cut -d' ' -f1
}

# venv_is_current EXTRA: true when .venv holds this project with the packages of EXTRA ("" or "dev").
venv_is_current() {
    [ -n "$PYTHON" ] && [ -x "$VENV/bin/stack" ] || return 1
    local stamp
    for stamp in "$1" dev; do
        [ "$(cat "$VENV/.installed-${stamp:-run}" 2>/dev/null)" = "$(venv_key "$stamp")" ] && return 0
    done
    return 1
}

# make_venv EXTRA: .venv with the project and its dependencies at the versions of the lock file.
make_venv() {
    find_python
    [ -n "$PYTHON" ] || fail "Python 3.11 or newer is needed, and none was found" "this system is too old: use Debian 12 or Ubuntu 24.04, or newer"
    venv_is_current "$1" && return
    say "Installing this project into $VENV ($("$PYTHON" --version)), at the versions of requirements-ci.lock"
    # An environment whose interpreter went away with an upgrade of the system cannot be repaired, only made again.
    if ! "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
        "$PYTHON" -m venv --clear "$VENV" || fail "no virtual environment could be made in $VENV"
    fi
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$LOCK" --editable "$REPOSITORY${1:+[$1]}" ||
        fail "pip could not install the project's dependencies" "pip reads its index from pip.conf and PIP_INDEX_URL; see the message above"
    venv_key "$1" >"$VENV/.installed-${1:-run}"
}
