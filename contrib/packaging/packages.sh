#!/bin/sh
# Makes the Debian and RPM packages of what is in bin/.
#
#   packages.sh OUTDIR VERSION [PARTS]
#
# VERSION is that of the programs: v1.2.3, which the packages call 1.2.3, or a commit's, of which they make a version that
# comes before all released ones. PARTS are those of stage.sh, by default all.
set -eu

out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/../.."
go=${GO:-go}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
CRIO_VERSION=$(sed -n 's,^\tgithub.com/cri-o/cri-o v,,p' contrib/crio/go.mod)
export SOURCE_DATE_EPOCH CRIO_VERSION

case $2 in
v[0-9]*) version=$(echo "${2#v}" | tr - '~') ;;
*) version="0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$(echo "$2" | tr -- - .)" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for part in ${3:-node crio}; do
	ZSH=/usr/share/zsh/vendor-completions FORMAT=deb contrib/packaging/stage.sh "$part" "$work/$part-deb" /usr
	ZSH=/usr/share/zsh/site-functions FORMAT=rpm contrib/packaging/stage.sh "$part" "$work/$part-rpm" /usr
	# Debian wants manual pages compressed, without a time (policy 12.1); rpm takes them either way.
	find "$work/$part-deb/usr/share/man" -type f -exec gzip -9n {} +
	(cd contrib/packaging && "$go" run . -description "$part.yaml" -version "$version" -out "$out" \
		"deb=$work/$part-deb" "rpm=$work/$part-rpm")
done
