# The image is named after the system that it is made on: debian:12, debian:13 or ubuntu:24.04.
. "${REPOSITORY:?}/scripts/lib/rootfs.sh"

describe="$PRETTY_NAME, the minimal base system with apt"
tag=$ID:$VERSION_ID
changes=('CMD ["bash"]' 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')

make_rootfs() {
    make_debian_tar "$1" minbase ""
}
