#!/bin/sh
# Builds CRI-O, unforked, with the erofs graph driver compiled in, and its helper pinns.
#
#   build.sh OUTDIR
#   build.sh --source     prints the folder of CRI-O's source in the module cache
#
# CRI-O's module is vendored, because "go build -overlay" does not add files to the module cache, and overlay/erofs.go
# is laid over its main package. Nothing is done again whose inputs did not change.
set -eu

[ "$1" = --source ] || out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")"
here=$(pwd)
go=${GO:-go}
main=github.com/cri-o/cri-o/cmd/crio

# Pure Go instead of gpgme and btrfs; libseccomp stays, without it no pod's seccomp profile is applied.
# graphdriver_erofs makes overlay/erofs.go part of the build, and "crio version" lists it among its build tags.
tags="containers_image_ostree_stub containers_image_openpgp exclude_graphdriver_btrfs"
tags="$tags apparmor seccomp selinux graphdriver_erofs"

# This commit of containerd/nri, which CRI-O 1.34.0 requires, has no entry in the checksum database. What guards it is
# our go.sum, whose lines must be those of CRI-O's own go.sum (see check_sums).
unlisted=github.com/containerd/nri
GONOSUMDB=$unlisted${GONOSUMDB:+,$GONOSUMDB}
export GONOSUMDB
GOFLAGS="${GOFLAGS:-} -buildvcs=false" # our commit is not CRI-O's
export GOFLAGS

# module_dir prints where CRI-O's module lies in the module cache, and fetches it first if it is not there.
module_dir() {
	dir=$("$go" mod download -json github.com/cri-o/cri-o | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
	[ -n "$dir" ] || fail "cannot download github.com/cri-o/cri-o: run 'go mod download -x github.com/cri-o/cri-o' here"
	echo "$dir"
}

fail() {
	echo "contrib/crio/build.sh: $*" >&2
	exit 1
}

if [ "$1" = --source ]; then
	module_dir
	exit
fi

# check_sums makes sure that the hashes of modules without checksum database entry are CRI-O's.
check_sums() {
	grep "^$unlisted " go.sum >"$work/unlisted" || fail "go.sum has no line for $unlisted"
	while read -r line; do
		grep -qxF "$line" "$1/go.sum" || fail "go.sum: '$line' is not in CRI-O's go.sum: take the line from there"
	done <"$work/unlisted"
}

# changed FILE INPUT... tells whether FILE is missing or older than one of the inputs. What is made here gets the time
# of the start (touch -r), so that a source changed meanwhile counts as newer. Folders count, too: one from which a file
# was taken away has no newer file.
changed() {
	file=$1
	shift
	[ ! -e "$file" ] || [ -n "$(find "$@" ! -name '*_test.go' -newer "$file" | head -n 1)" ]
}

exec 9<.
flock 9 # this folder: two builds at once would vendor into each other

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/start"

# Our own packages are vendored too, so their sources are inputs.
inputs="go.mod go.sum tools.go overlay build.sh ../../go.mod ../../driver"
# shellcheck disable=SC2086 # a list
if changed vendor/modules.txt $inputs; then
	echo "vendoring CRI-O" >&2
	check_sums "$(module_dir)"
	rm -rf vendor.tmp
	"$go" mod vendor -o vendor.tmp
	touch -r "$work/start" vendor.tmp/modules.txt
	rm -rf vendor
	mv vendor.tmp vendor # all or nothing: modules.txt says that the folder is complete
fi

if changed "$out/crio" vendor/modules.txt; then
	date=$(date -u ${SOURCE_DATE_EPOCH:+-d "@$SOURCE_DATE_EPOCH"} +%Y-%m-%dT%H:%M:%SZ)
	printf '{"Replace": {"%s": "%s"}}\n' "$here/vendor/$main/erofs.go" "$here/overlay/erofs.go" >"$work/overlay.json"
	echo "building $out/crio" >&2
	CGO_ENABLED=1 "$go" build -mod=vendor -overlay "$work/overlay.json" -trimpath -tags "$tags" \
		-ldflags "-s -w -X github.com/cri-o/cri-o/internal/version.buildDate=$date" \
		-o "$out/crio.tmp" "$main"
	touch -r "$work/start" "$out/crio.tmp"
	mv "$out/crio.tmp" "$out/crio"
fi

if changed "$out/pinns" go.mod build.sh; then
	echo "building $out/pinns" >&2
	cp "$(module_dir)"/pinns/src/*.[ch] "$work"
	${CC:-cc} -std=c99 -Os -Wall -Wextra -static -s -o "$out/pinns.tmp" "$work"/*.c
	mv "$out/pinns.tmp" "$out/pinns"
fi
