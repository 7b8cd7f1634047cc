#!/bin/sh
# Installs the Debian packages that building, testing and the demo need. Quick when they are all there.
#
#   deps.sh build|run
set -eu

case "${1:-}" in
build)
	# CRI-O's seccomp support and pinns are C; so is a driver that containers/storage's own tests bring along (btrfs).
	packages="gcc libc6-dev libseccomp-dev libbtrfs-dev make pkg-config git ca-certificates" ;;
run)
	packages="
		runc conmon containernetworking-plugins iptables
		docker-registry debootstrap skopeo
		erofs-utils cryptsetup-bin e2fsprogs xfsprogs btrfs-progs attr acl libcap2-bin libarchive-tools
		qemu-system-x86 python3 busybox-static fdisk gdisk cpio xz-utils zstd kmod jq curl openssl secilc
		rpm systemd groff-base" ;;
*)
	echo "usage: $0 build|run" >&2
	exit 2 ;;
esac

missing=
for package in $packages; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "missing Debian packages:$missing: run 'make deps' as root" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing:$missing" >&2
apt-get update -qq
# shellcheck disable=SC2086 # a list
apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 $missing >&2
