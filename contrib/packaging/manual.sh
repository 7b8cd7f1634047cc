#!/bin/sh
# Writes the manual pages and the shell completions: those of the commands from the commands themselves, the others from
# docs/man, CRI-O's, with its units and its licence, from its module.
#
#   manual.sh DIR VERSION
set -eu

mkdir -p "$1"
dir=$(cd "$1" && pwd)
version=$2
cd "$(dirname "$0")/../.."
go=${GO:-go}
date=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}" +%Y-%m-%d)

# This runs here, whatever the programs are built for.
unset GOOS GOARCH
export CGO_ENABLED=0

rm -rf "$dir/man" "$dir/completions" "$dir/crio"
mkdir -p "$dir/man/man5" "$dir/man/man8" "$dir/crio"
for program in crio-erofs crio-erofs-hook; do
	"$go" run -tags manual -buildvcs=false -ldflags "-X main.version=$version" "./cmd/$program" \
		manual --date "$date" "$dir"
done
md2man() { (cd contrib/packaging && "$go" tool go-md2man -in "$1" -out "$2"); }
for page in docs/man/*.[58].md; do
	name=$(basename "$page" .md)
	sed "s,@DATE@,$date,; s,@VERSION@,$version," "$page" >"$dir/page.md"
	md2man "$dir/page.md" "$dir/man/man${name##*.}/$name"
done
source=$(contrib/crio/build.sh --source)
for page in "$source"/docs/*.[58].md; do
	md2man "$page" "$dir/crio/$(basename "$page" .md)"
done
cp -r "$source/contrib/systemd" "$source/completions" "$source/LICENSE" "$dir/crio"
chmod -R u+w "$dir/crio" # the module cache is read-only
rm "$dir/page.md"
