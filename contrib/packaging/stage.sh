#!/bin/sh
# Lays out what is installed below a directory: the one list of files for "make install" and for the packages.
#
#   stage.sh node|crio STAGE PREFIX
#
# node: everything but CRI-O. crio: CRI-O with the driver, and its units. BIN (default bin), MANUAL (pages and completions,
# default BIN/manual), ZSH (where zsh looks for completions) and, for packages, FORMAT (deb or rpm) may be set.
#
# What is below STAGE/etc is configuration: install.sh and the packages never overwrite a changed one.
set -eu

if [ $# != 3 ]; then
	echo "usage: $0 node|crio STAGE PREFIX" >&2
	exit 2
fi
part=$1
stage=$(mkdir -p "$2" && cd "$2" && pwd)
prefix=$3
cd "$(dirname "$0")/../.."
bin=${BIN:-bin}
manual=${MANUAL:-$bin/manual}
zsh=${ZSH:-$prefix/share/zsh/site-functions}

# put MODE TO FROM... copies files into the directory TO.
put() {
	mode=$1
	to=$stage$2
	shift 2
	install -d -m 755 "$to"
	install -m "$mode" -t "$to" "$@"
}

# link TO TARGET
link() {
	install -d -m 755 "$(dirname "$stage$1")"
	ln -sfn "$2" "$stage$1"
}

# tree TO FROM copies a directory's files, but for programs' sources.
tree() {
	(cd "$2" && find . -type f ! -name '*.go' ! -name '*.sh' ! -name 'go.*' ! -name Containerfile \
		-exec install -D -m 644 {} "$stage$1/{}" \;)
}

node() {
	put 755 "$prefix/bin" "$bin/crio-erofs" "$bin/crio-erofs-hook" "$bin/containerd-shim-kata-erofs-v2"
	# Each handler has the shim under its own name.
	sed -n 's,^runtime_path = ".*/\(.*\)"$,\1,p' contrib/crio.conf.d/60-kata-erofs.conf | while read -r shim; do
		[ "$shim" = containerd-shim-kata-erofs-v2 ] || link "$prefix/bin/$shim" containerd-shim-kata-erofs-v2
	done
	link /opt/nri/plugins/10-crio-erofs "$prefix/bin/crio-erofs-hook"
	put 644 /etc/nri/conf.d contrib/nri/conf.d/10-crio-erofs.conf
	put 644 /etc/crio-erofs contrib/config/config.toml
	put 644 /etc/crio/crio.conf.d contrib/crio.conf.d/60-kata-erofs.conf
	put 644 /usr/share/containers/oci/hooks.d contrib/hooks.d/60-crio-erofs-guard.json
	put 644 "$prefix/lib/systemd/system" contrib/systemd/crio-erofs-hook.service
	put 644 "$prefix/lib/systemd/system/crio.service.d" contrib/systemd/crio.service.d/10-erofs.conf
	put 644 "$prefix/share/crio-erofs/crio.conf.d" contrib/crio.conf.d/60-erofs.conf
	for samples in grafana hooks.d-podman kubernetes openshift prometheus selinux storage; do
		[ ! -d "contrib/$samples" ] || tree "$prefix/share/crio-erofs/$samples" "contrib/$samples"
	done
	documents crio-erofs README.md
	put 644 "$prefix/share/doc/crio-erofs/docs" docs/*.md docs/*.svg # where README.md finds them
	for section in 1 5 8; do
		put 644 "$prefix/share/man/man$section" "$manual/man/man$section"/*
	done
	put 644 "$prefix/share/bash-completion/completions" "$manual"/completions/bash/*
	put 644 "$zsh" "$manual"/completions/zsh/*
	put 644 "$prefix/share/fish/vendor_completions.d" "$manual"/completions/fish/*
}

crio() {
	source=$manual/crio # CRI-O's own files, as they are but for the path
	put 755 "$prefix/bin" "$bin/crio" "$bin/pinns"
	put 644 "$prefix/lib/systemd/system" "$source"/systemd/*.service
	for page in 5 8; do
		put 644 "$prefix/share/man/man$page" "$source"/*."$page"
	done
	put 644 "$prefix/share/bash-completion/completions" "$source/completions/bash/crio"
	put 644 "$zsh" "$source/completions/zsh/_crio"
	put 644 "$prefix/share/fish/vendor_completions.d" "$source/completions/fish/crio.fish"
	documents cri-o-erofs contrib/crio/README.md "$source/LICENSE"
	[ -n "${FORMAT:-}" ] || return 0 # the rest is for packages: an admin who builds has a configured CRI-O, or makes one
	put 644 /etc/crio contrib/packaging/crio/policy.json
	install -D -m 644 "contrib/packaging/crio/10-crio.conf.$FORMAT" "$stage/etc/crio/crio.conf.d/10-crio.conf"
}

# documents PACKAGE FILE... puts documents and the licence of our own.
documents() {
	package=$1
	shift
	put 644 "$prefix/share/doc/$package" "$@" contrib/packaging/copyright
}

case $part in
node | crio) "$part" ;;
*)
	echo "$0: there is no part $part" >&2
	exit 2 ;;
esac
# The sources say /usr/local. That stays in what is about a cluster's nodes, whatever is installed here, and in install.md,
# which is about the prefix.
[ "$prefix" = /usr/local ] || find "$stage" -type f ! -path '*/share/crio-erofs/kubernetes/*' \
	! -path '*/share/crio-erofs/openshift/*' ! -path '*/docs/install.md' -exec grep -lIZ /usr/local/ {} + |
	xargs -0r sed -i "s,/usr/local/,$prefix/,g"
