#!/bin/sh
# Installs what stage.sh has laid out, and takes it away again.
#
#   install.sh install STAGE DESTDIR MANIFEST
#   install.sh uninstall DESTDIR MANIFEST
#
# MANIFEST, a path below DESTDIR, says what was installed: directories that were not there before, links with their targets,
# files with their SHA-256. A file below /etc that somebody has changed since is neither replaced nor removed.
set -eu

usage() {
	sed -n 's/^#   install.sh/usage: install.sh/p' "$0" >&2
	exit 2
}

# entry KIND PATH prints the value of a line of the old manifest, nothing if it has none.
entry() {
	[ ! -f "$manifest" ] || sed -n "s,^$1 \([^ ]*\) $2\$,\1,p" "$manifest"
}

sum() { sha256sum <"$1" | cut -d ' ' -f 1; }

# changed PATH tells whether a file is another one than was installed. Without a manifest every file is.
changed() { [ "$(sum "$destdir$1")" != "$(entry f "$1")" ]; }

is_configuration() { case $1 in /etc/*) ;; *) return 1 ;; esac; }

# make_directory PATH makes a directory and those above it, and notes which were missing, or were when they were made.
make_directory() {
	[ "$1" != / ] || return 0
	make_directory "$(dirname "$1")"
	if [ ! -d "$destdir$1" ]; then
		install -d -m 755 "$destdir$1"
	elif [ -z "$(entry d "$1")" ]; then
		return 0
	fi
	grep -qxF "d - $1" "$work/manifest" || echo "d - $1" >>"$work/manifest"
}

# install_file PATH
install_file() {
	new=$stage$1 old=$destdir$1
	if is_configuration "$1" && [ -e "$old" ] && ! cmp -s "$new" "$old" && changed "$1"; then
		echo "kept $old, which is not as it was installed: compare it with $stage$1" >&2
		# The line of the manifest stays, too: the file does not become ours by being kept.
		echo "f $(entry f "$1" | grep . || echo kept) $1" >>"$work/manifest"
		return
	fi
	mode=644
	[ ! -x "$new" ] || mode=755
	# Beside it and renamed: a program that runs cannot be written to, and CRI-O may read the file just now.
	install -m "$mode" "$new" "$destdir$(dirname "$1")/.new"
	mv -f "$destdir$(dirname "$1")/.new" "$old"
	echo "f $(sum "$new") $1" >>"$work/manifest"
}

install_all() {
	[ -d "$stage" ] || { echo "install.sh: there is no $stage" >&2; exit 1; }
	: >"$work/manifest"
	(cd "$stage" && find . ! -type d -printf '/%P\n' | sort) >"$work/paths"
	while read -r path; do
		make_directory "$(dirname "$path")"
		if [ -L "$stage$path" ]; then
			ln -sfn "$(readlink "$stage$path")" "$destdir$path"
			echo "l $(readlink "$stage$path") $path" >>"$work/manifest"
		else
			install_file "$path"
		fi
	done <"$work/paths"
	make_directory "$(dirname "${manifest#"$destdir"}")"
	remove_entries "$work/paths" # what an earlier version had, and this one has not
	install -m 644 "$work/manifest" "$manifest.new"
	mv -f "$manifest.new" "$manifest"
}

# remove_entries KEEP removes what the manifest names, except the paths in the file KEEP.
remove_entries() {
	[ -f "$manifest" ] || return 0
	while read -r kind value path; do
		if [ "$kind" = d ] || grep -qxF "$path" "$1"; then
			continue
		elif [ "$kind" = l ]; then
			[ "$(readlink "$destdir$path")" != "$value" ] || rm "$destdir$path"
		elif [ ! -e "$destdir$path" ]; then
			continue
		elif is_configuration "$path" && [ "$(sum "$destdir$path")" != "$value" ]; then
			echo "kept $destdir$path, which is not as it was installed" >&2
		else
			rm "$destdir$path"
		fi
	done <"$manifest"
}

uninstall_all() {
	[ -f "$manifest" ] || { echo "install.sh: nothing is installed: there is no $manifest" >&2; exit 1; }
	remove_entries /dev/null
	sed -n 's,^d - ,,p' "$manifest" | sort -r >"$work/directories"
	rm "$manifest"
	while read -r directory; do
		[ ! -d "$destdir$directory" ] || rmdir --ignore-fail-on-non-empty "$destdir$directory"
	done <"$work/directories"
}

[ $# -ge 1 ] || usage
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $1:$# in
install:4)
	stage=$2 destdir=${3%/} manifest=${3%/}$4
	install_all ;;
uninstall:3)
	destdir=${2%/} manifest=${2%/}$3
	uninstall_all ;;
*) usage ;;
esac
