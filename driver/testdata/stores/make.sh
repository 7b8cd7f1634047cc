#!/bin/sh
# Makes a store with the driver of a release, for TestOldStores.
#
#   make.sh COMMIT OUT.tar.gz NAME [OPTIONS] [NAME OPTIONS]...
#
# OPTIONS are the storage options, separated by commas, with which the image NAME is pulled.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
commit=$1 out=$(realpath "$2")
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source" "$work/store"
git -C "$(git -C "$here" rev-parse --show-toplevel)" archive -o "$work/source.tar" "$commit"
tar -x -C "$work/source" -f "$work/source.tar"
mkdir "$work/source/cmd/make"
cp "$here/make.go" "$work/source/cmd/make/main.go"
(cd "$work/source" && go build -o "$work/make" ./cmd/make)
while [ $# -gt 0 ]; do
	name=$1 options=${2:-}
	shift $(($# > 1 ? 2 : 1))
	# shellcheck disable=SC2046 # a list
	"$work/make" "$work/store" "$name" $(echo "$options" | tr , ' ')
done
# Templates of writable layers are made again when they are missing.
rm -rf "$work/store/run" "$work/store/graph/erofs/templates"/*
tar -C "$work/store" --xattrs --xattrs-include='*' --sparse --sort=name -c . | gzip -9n >"$out"
