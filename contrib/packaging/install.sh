#!/bin/sh
# Installs what stage.sh has laid out, and takes it away again.
#
#   install.sh install STAGE DESTDIR MANIFEST
#   install.sh uninstall DESTDIR MANIFEST
#
# MANIFEST, a path below DESTDIR, says what was installed, a line each: "d - PATH", directories that were not there before;
# "l TARGET PATH", links; "f SHA256 PATH", files. No path has a space. A file below /etc that somebody has changed since is
# neither replaced nor removed.
set -eu

newline='
'

# recorded LINE tells whether the old manifest has a line.
recorded() { case "$newline$old$newline" in *"$newline$1$newline"*) ;; *) return 1 ;; esac; }

sum() { sha256sum <"$1" | cut -d ' ' -f 1; }

# as_installed PATH tells whether a file is still the one that was installed.
as_installed() { recorded "f $(sum "$destdir$1") $1"; }

# put FROM PATH installs a file. Beside the old one, and renamed: a program that runs cannot be written to, and CRI-O may
# read its configuration just now, of which every file in crio.conf.d is one.
put() {
	mode=644
	[ ! -x "$1" ] || mode=755
	directory=$destdir${2%/*}
	case $directory in */crio.conf.d) directory=${directory%/*} ;; esac
	install -m "$mode" "$1" "$directory/.new"
	mv -f "$directory/.new" "$destdir$2"
}

# put_configuration PATH
put_configuration() {
	if [ -e "$destdir$1" ] && ! cmp -s "$stage$1" "$destdir$1" && ! as_installed "$1"; then
		echo "kept $destdir$1, which is not as it was installed: compare it with $stage$1" >&2
	else
		put "$stage$1" "$1"
	fi
}

# put_link TARGET PATH. One that was installed and is gone was removed by somebody who does not want it.
put_link() {
	if [ -L "$destdir$2" ] || ! recorded "l $1 $2"; then
		ln -sfn "$1" "$destdir$2"
	else
		echo "did not bring back $destdir$2, which somebody has removed" >&2
	fi
}

# make_directories makes those of the stage, and prints a line for each that is new, or was when it was made.
make_directories() {
	{
		(cd "$stage" && find . -mindepth 1 -type d -printf '/%P\n')
		parent=${1%/*}
		while [ -n "$parent" ]; do # of the manifest itself
			echo "$parent"
			parent=${parent%/*}
		done
	} | sort -u | while read -r directory; do
		if [ ! -d "$destdir$directory" ]; then
			install -d -m 755 "$destdir$directory"
		elif ! recorded "d - $directory"; then
			continue
		fi
		echo "d - $directory"
	done
}

install_all() {
	[ -d "$stage" ] || { echo "install.sh: there is no $stage: run make install" >&2; exit 1; }
	install -d -m 755 "$destdir/"
	make_directories "$manifest" >"$work/manifest"
	(cd "$stage" && find . -type l -printf 'l %l /%P\n' && find . -type f -exec sha256sum {} + |
		sed 's,^\([^ ]*\)  \./,f \1 /,') | sort -k 3 >>"$work/manifest"
	while read -r kind value path; do
		case $kind:$path in
		d:*) ;;
		l:*) put_link "$value" "$path" ;;
		f:/etc/*) put_configuration "$path" ;;
		*) put "$stage$path" "$path" ;;
		esac
	done <"$work/manifest"
	remove_but "$work/manifest" # what an earlier version had, and this one has not
	put "$work/manifest" "$manifest"
}

# remove_but KEEP removes what the manifest names, except what the manifest KEEP names, too.
remove_but() {
	keep=$newline$(cut -d ' ' -f 3 "$1")$newline
	printf '%s\n' "$old" | while read -r kind value path; do
		case $keep in *"$newline$path$newline"*) continue ;; esac
		case $kind:$path in
		l:*) [ "$(readlink "$destdir$path")" != "$value" ] || rm "$destdir$path" ;;
		f:/etc/*)
			if [ -e "$destdir$path" ] && [ "$(sum "$destdir$path")" != "$value" ]; then
				echo "kept $destdir$path, which is not as it was installed" >&2
			else
				rm -f "$destdir$path"
			fi ;;
		f:*) rm -f "$destdir$path" ;;
		esac
	done
}

uninstall_all() {
	[ -n "$old" ] || { echo "install.sh: nothing is installed: there is no $destdir$manifest" >&2; exit 1; }
	remove_but /dev/null
	rm "$destdir$manifest"
	printf '%s\n' "$old" | sed -n 's,^d - ,,p' | sort -r | while read -r directory; do
		[ ! -d "$destdir$directory" ] || rmdir --ignore-fail-on-non-empty "$destdir$directory"
	done
}

case ${1:-}:$# in
install:4) stage=$2 destdir=${3%/} manifest=$4 ;;
uninstall:3) destdir=${2%/} manifest=$3 ;;
*)
	sed -n 's/^#   install.sh/usage: install.sh/p' "$0" >&2
	exit 2 ;;
esac
old=$(cat "$destdir$manifest" 2>/dev/null) || old=
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1_all"
