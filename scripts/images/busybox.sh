describe="busybox-static and its applets, about 2 MB"
tag=busybox:latest
changes=('CMD ["sh"]' 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')

make_rootfs() {
    local root applet
    root=$(mktemp -d)
    chmod 755 "$root"
    mkdir -p "$root"/{bin,dev,etc,home,proc,root,sys,usr/bin,usr/sbin,var/log,var/spool} "$root/var/www"
    mkdir -m 1777 "$root/tmp" "$root/var/tmp"
    chmod 700 "$root/root"
    cp "$(command -v busybox)" "$root/bin/busybox"
    chmod 755 "$root/bin/busybox"
    # Hard links, as the usual busybox image has them: no applet disappears when one of them is replaced.
    for applet in $("$root/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"
    done
    ln -s ../../bin/env "$root/usr/bin/env"
    cat >"$root/etc/passwd" <<'EOF'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
EOF
    cat >"$root/etc/group" <<'EOF'
root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
nogroup:x:65534:
EOF
    printf 'root:*:19000:0:99999:7:::\n' >"$root/etc/shadow"
    chmod 640 "$root/etc/shadow"
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
    tar --create --directory "$root" --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 --file "$1" .
    rm -rf "$root"
}
