describe="Python with the PostgreSQL and Redis clients, on a minimal $PRETTY_NAME"
tag=python:latest
changes=(
    'CMD ["python3"]'
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    'ENV PYTHONUNBUFFERED=1'
)

make_rootfs() {
    make_debian_tar "$1" essential python3,python3-psycopg2,python3-redis \
        --customize-hook='ln -sf python3 "$1"/usr/bin/python'
}
