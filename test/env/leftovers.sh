#!/bin/sh
# Compares what is mounted, attached and running with what was there before.
#
#   leftovers.sh save FILE     before a run
#   leftovers.sh check FILE    after it: prints what is left, exit 1 if anything is
set -eu

# state prints one line for each thing that a test could leave behind.
state() {
	# The kernel mounts tracefs by itself, when somebody looks into debugfs.
	awk '$3 != "tracefs" {print "mount " $2 " (" $3 ")"}' /proc/mounts
	for backing in /sys/block/loop*/loop/backing_file; do
		[ -e "$backing" ] || continue
		device=${backing#/sys/block/}
		echo "loop device /dev/${device%%/*} of $(cat "$backing")"
	done
	find /sys/fs/cgroup -type d \( -name '*crio-*' -o -name '*erofs-demo-*' \) -printf 'control group %p\n' 2>/dev/null || : # some may just be going
	# By name, not by id: these programs are what the tests start.
	for exe in /proc/[0-9]*/exe; do
		name=$(basename "$(readlink "$exe" 2>/dev/null || echo gone)")
		case "${name%% *}" in
		crio | conmon | runc | pause | docker-registry | crio-erofs* | containerd-shim-* | qemu-system-*)
			echo "process ${exe%/exe} ($name)" | sed 's,/proc/,,' ;;
		esac
	done
}

case "${1:-}" in
save) state | sort >"$2" ;;
check)
	for _ in 1 2 3 4 5 6 7 8 9 10; do # a killed process may take a moment to go
		left=$(state | sort | comm -23 - "$2")
		[ -n "$left" ] || { echo "nothing left behind: no mount, loop device, control group or process"; exit 0; }
		sleep 0.5
	done
	printf 'left behind:\n%s\n' "$left" >&2
	exit 1 ;;
*)
	echo "usage: $0 save|check FILE" >&2
	exit 2 ;;
esac
