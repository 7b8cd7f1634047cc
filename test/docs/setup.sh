# What the shell of a page sees, in a mount namespace of its own: a node with crio-erofs's programs in PATH, CRI-O's store,
# sockets and configuration where they are by default, and a clone of the repository as the working directory. What the
# commands write is gone at the end. (/tmp is the machine's: what they need may be there. TestCommands refuses pages that
# write to it.)
#
# DOCS_SCRATCH is an empty directory, DOCS_CLONE the repository, DOCS_CRIO the directory of a running test CRI-O, DOCS_HOST
# the registry's line in /etc/hosts.
set -e
mount -t tmpfs docs "$DOCS_SCRATCH"
layer() {
	mkdir -p "$DOCS_SCRATCH$2/upper" "$DOCS_SCRATCH$2/work"
	mount -t overlay docs -o "lowerdir=$1,upperdir=$DOCS_SCRATCH$2/upper,workdir=$DOCS_SCRATCH$2/work" "$2"
}
mkdir "$DOCS_SCRATCH/clone"
mkdir -p "$DOCS_SCRATCH/upper" "$DOCS_SCRATCH/work"
mount -t overlay docs -o "lowerdir=$DOCS_CLONE,upperdir=$DOCS_SCRATCH/upper,workdir=$DOCS_SCRATCH/work" "$DOCS_SCRATCH/clone"
# The test's CRI-O may have its directory below one of these: keep a hold on it.
mkdir "$DOCS_SCRATCH/crio"
mount --rbind "$DOCS_CRIO" "$DOCS_SCRATCH/crio"
for dir in /etc /usr /opt /mnt /var/lib /root; do
	[ ! -d "$dir" ] || layer "$dir" "$dir"
done
mount -t tmpfs docs /run
mkdir -p /var/lib/containers/storage /run/containers/storage /run/crio /etc/crio/crio.conf.d /etc/containers /etc/crio-erofs
mount --rbind "$DOCS_SCRATCH/crio/graphroot" /var/lib/containers/storage
mount --rbind "$DOCS_SCRATCH/crio/runroot" /run/containers/storage
ln -s "$DOCS_SCRATCH/crio/crio.sock" /run/crio/crio.sock
cp "$DOCS_SCRATCH/crio/policy.json" /etc/containers/
echo "$DOCS_HOST" >>/etc/hosts
cp -L "$DOCS_SCRATCH"/crio/crio.conf.d/* /etc/crio/crio.conf.d/
: >/etc/crio/crio.conf
rm -rf /etc/crio-erofs/* /opt/nri
cd "$DOCS_SCRATCH/clone"
export PATH="$DOCS_CLONE/bin:$PATH" HOME=/root LC_ALL=C.UTF-8
set +e
