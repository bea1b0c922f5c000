describe="Redis on a minimal $PRETTY_NAME"
tag=redis:latest
changes=(
    'ENTRYPOINT ["/usr/local/bin/redis-entrypoint"]'
    'CMD ["redis-server"]'
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    'EXPOSE 6379/tcp'
    'VOLUME /data'
    'WORKDIR /data'
)

make_rootfs() {
    make_debian_tar "$1" essential redis-server \
        --customize-hook="copy-in $HERE/images/redis-entrypoint /usr/local/bin" \
        --customize-hook='install -d -o "$(chroot "$1" id -u redis)" -g "$(chroot "$1" id -g redis)" "$1"/data'
}
