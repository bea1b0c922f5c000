describe="PostgreSQL on a minimal $PRETTY_NAME"
tag=postgres:latest
changes=(
    'ENTRYPOINT ["/usr/local/bin/postgres-entrypoint"]'
    'CMD ["postgres"]'
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/bin'
    'ENV PGDATA=/var/lib/postgresql/data'
    'ENV LANG=C.UTF-8'
    'EXPOSE 5432/tcp'
    'VOLUME /var/lib/postgresql/data'
    'STOPSIGNAL SIGINT'
)

make_rootfs() {
    # The package would make a cluster of its own; the entrypoint makes one in the volume instead. Without LLVM (a third of
    # the image) the server does not compile queries just in time, and says nothing about it.
    make_debian_tar "$1" essential postgresql \
        --dpkgopt='path-exclude=/usr/lib/*/libLLVM*' \
        --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/llvmjit*' \
        --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/bitcode/*' \
        --essential-hook='mkdir -p "$1"/etc/postgresql-common && echo "create_main_cluster = false" >"$1"/etc/postgresql-common/createcluster.conf' \
        --customize-hook="copy-in $HERE/images/postgres-entrypoint /usr/local/bin" \
        --customize-hook='for bin in "$1"/usr/lib/postgresql/*/bin; do version=${bin%/bin}; ln -s "${version##*/}/bin" "$1"/usr/lib/postgresql/bin; done' \
        --customize-hook='mkdir -p "$1"/docker-entrypoint-initdb.d' \
        --customize-hook='install -d -m 700 -o "$(chroot "$1" id -u postgres)" -g "$(chroot "$1" id -g postgres)" "$1"/var/lib/postgresql/data' \
        --customize-hook='install -d -m 2775 -o "$(chroot "$1" id -u postgres)" -g "$(chroot "$1" id -g postgres)" "$1"/var/run/postgresql'
}
