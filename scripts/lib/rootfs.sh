# Sourced by build-base-images: root filesystem tars out of this system's packages.

# shellcheck disable=SC1091
. /etc/os-release

# Prints one-line sources of the distribution itself; third-party sources of this machine stay out.
list_sources() {
    apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
        awk -F'|' '$1 == "Debian" || $1 == "Ubuntu" {
            key = $2 " " $3
            if (!(key in components)) order[++n] = key
            if (index(" " components[key] " ", " " $4 " ") == 0) components[key] = components[key] " " $4
        }
        END { for (i = 1; i <= n; i++) print "deb " order[i] components[order[i]] }'
}

# The way to the mirror (proxies, certificates, clock checks) is the host's; everything else is mmdebstrap's own.
list_apt_options() {
    apt-config dump | grep -E '^Acquire::(http|https|ftp|Retries|Check-Valid-Until|Check-Date|ForceIPv4|ForceIPv6)' |
        grep -Ev ' "";$' || true
}

# make_debian_tar TAR VARIANT PACKAGES [MMDEBSTRAP OPTION...]: PACKAGES is a comma list, may be empty.
make_debian_tar() {
    local tar=$1 variant=$2 packages=$3 work status=0
    shift 3
    command -v mmdebstrap >/dev/null || fail "mmdebstrap is not installed" "apt-get install mmdebstrap"
    work=$(mktemp -d)
    list_sources >"$work/sources.list"
    if [ ! -s "$work/sources.list" ]; then
        # A machine that never ran `apt-get update` has no index targets with an origin.
        as_root apt-get update -qq || true
        list_sources >"$work/sources.list"
    fi
    [ -s "$work/sources.list" ] || fail "no $ID package source is configured here" "see /etc/apt/sources.list.d"
    list_apt_options >"$work/apt.conf"
    as_root mmdebstrap --quiet --mode="$(choose_mode)" --variant="$variant" ${packages:+"--include=$packages"} \
        --aptopt="$work/apt.conf" \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/lintian/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/i18n/*' \
        --dpkgopt='path-exclude=/usr/lib/*/gconv/*' \
        "$@" \
        --customize-hook='rm -rf "$1"/var/log/*.log "$1"/var/log/apt "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old "$1"/var/cache/ldconfig "$1"/etc/apt/apt.conf.d/99mmdebstrap' \
        --customize-hook='rm -f "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/machine-id; : >"$1"/etc/machine-id' \
        --format=tar "$VERSION_CODENAME" - "$work/sources.list" >"$tar" || status=$?
    rm -rf "$work"
    [ "$status" -eq 0 ] || fail "mmdebstrap could not make $(basename "$tar" .part)" "its messages are above"
}

# Root can chroot and mount on a machine of its own; in a container without CAP_SYS_ADMIN only chroot is left.
choose_mode() {
    if as_root unshare --mount true 2>/dev/null; then printf root; else printf unshare; fi
}
