#!/bin/sh
# Runs a command with a Debian as its root. It is started in mount and PID namespaces of its own, of which nothing is left
# when it ends:
#
#   enter.sh BASE CHANGES ARCHIVES COMMAND...
#
# The root is an overlay of the folder BASE and what is in CHANGES, a folder that is visible inside by its name, too.
# ARCHIVES is apt's cache. CRI-O's store is in CHANGES, for an overlay on an overlay has limits.
set -eu

base=$1
changes=$2
archives=$3
shift 3

mount --make-rprivate /
mkdir -p "$changes/upper" "$changes/work" "$changes/root" "$changes/containers"
root=$changes/root
mount -t overlay -o "lowerdir=$base,upperdir=$changes/upper,workdir=$changes/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/var/lib/containers" "$root$changes" "$root/var/lib/apt/lists"
mount --bind "$changes/containers" "$root/var/lib/containers"
mount --bind "$archives" "$root/var/cache/apt/archives"
mount --bind /var/lib/apt/lists "$root/var/lib/apt/lists"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount --bind "$changes" "$root$changes"
mkdir -p "$root/run/old"
cd "$root"
pivot_root . run/old
umount -l /run/old
rmdir /run/old
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# Not exec: this process is the namespace's init, and adopts what a daemon leaves.
trap 'kill -TERM "$child"' TERM
"$@" &
child=$!
status=0
wait "$child" || status=$?
[ "$status" -le 128 ] || wait "$child" || status=$? # a signal ended the waiting, not the child
exit "$status"
