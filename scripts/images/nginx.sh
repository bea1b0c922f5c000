describe="nginx on a minimal $PRETTY_NAME"
tag=nginx:latest
changes=(
    'CMD ["nginx", "-g", "daemon off;"]'
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    'EXPOSE 80/tcp'
    'STOPSIGNAL SIGQUIT'
)

make_rootfs() {
    make_debian_tar "$1" essential nginx \
        --customize-hook='ln -sf /dev/stdout "$1"/var/log/nginx/access.log' \
        --customize-hook='ln -sf /dev/stderr "$1"/var/log/nginx/error.log'
}
