#!/bin/sh
# Lays out the files of the nodes' image, after "make build crio":
#
#   payload.sh OUTDIR
#
# OUTDIR/payload has what the installer puts on a node, under the names that the files have there, and OUTDIR/openshift
# what contrib/openshift adds to the operating system's image besides the programs.
set -eu

[ $# = 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/../../.."

payload=$out/payload
bin=$payload/usr/local/bin
mkdir -p "$bin" "$payload/opt/nri/plugins"
for program in crio pinns crio-erofs crio-erofs-hook containerd-shim-kata-erofs-v2; do
	install -m 755 "bin/$program" "$bin/$program"
done
# A handler's shim has the handler's name (docs/shim.md).
sed -n 's/^\[crio.runtime.runtimes.\(.*\)]$/\1/p' contrib/crio.conf.d/60-kata-erofs.conf |
	while read -r handler; do
		[ "$handler" = kata-erofs ] || ln -sfn containerd-shim-kata-erofs-v2 "$bin/containerd-shim-$handler-v2"
	done
ln -sfn /usr/local/bin/crio-erofs-hook "$payload/opt/nri/plugins/10-crio-erofs"

put() { install -D -m 644 "$1" "$2/$(basename "$1")"; }
put contrib/config/config.toml "$payload/etc/crio-erofs"
put contrib/hooks.d/60-crio-erofs-guard.json "$payload/usr/share/containers/oci/hooks.d"
put contrib/crio.conf.d/60-kata-erofs.conf "$payload/etc/crio/crio.conf.d"
put contrib/kubernetes/node/crio.service.d/10-erofs.conf "$payload/etc/systemd/system/crio.service.d"

openshift=$out/openshift
mkdir -p "$openshift/usr/libexec/nri/plugins"
cp -R contrib/openshift/image/. "$openshift"
ln -sfn /usr/bin/crio-erofs-hook "$openshift/usr/libexec/nri/plugins/10-crio-erofs"
put contrib/selinux/crio-erofs.cil "$openshift/usr/share/selinux/packages"
put contrib/hooks.d/60-crio-erofs-guard.json "$openshift/usr/share/containers/oci/hooks.d"
sed -i 's,/usr/local/,/usr/,' "$openshift/usr/share/containers/oci/hooks.d/60-crio-erofs-guard.json"
