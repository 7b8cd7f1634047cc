// Package driver is a containers/storage graph driver, registered as "erofs", that keeps image layers as read-only
// EROFS block volumes with a dm-verity tree.
//
// # Vocabulary
//
// A layer is what containers/storage calls one: an id, a parent, content. It is of one of two kinds:
//
//   - A volume layer is read-only and complete. Its content is one file, layer.erofs, that was made from the layer's
//     tar stream by ApplyDiff. Layers of equal content share that file by hard links.
//   - A directory layer has a diff directory, in overlayfs's form. Containers have one, and so does every layer that
//     somebody writes to without ApplyDiff.
//
// Create makes a directory layer; ApplyDiff turns it into a volume layer if nobody has written to it by then. A
// directory layer can be the parent of others, but a container above it has no rootfs that consists of volumes only,
// and its manifest says so (volume.Manifest.Refusal).
//
// A volume is a directory volumes/<name>, and a host mount is the volume's mount on mounts/<name>. The name consists of
// the first 24 hex digits of its root hash; of a volume without tree, of a digest of what it was made of (see
// contentOf). The chain of a layer is the layer, its parent, the parent's parent and so on.
//
// An image volume is the union of the volumes of an image. The image's top layer holds it: by a hard link,
// image.erofs, and a record, image.json. The first Get of a container of the image makes it. What it is made of stays,
// so it may be lost at any time and is made again.
//
// # Life of a mount
//
// Get mounts the image volume or else the volumes of the chain, then an overlay of them on layers/<id>/merged. All
// containers share one host mount per volume, and with it its page cache. Nothing counts its users: it is in use
// exactly as long as the chain of a layer that is mounted holds the volume, and the kernel knows what is mounted (see
// inUse). So there is no count to lose in a crash, at a reboot, or between two processes. Put unmounts the overlay;
// host mounts linger, and go a little later in the background (see releaseSoon).
//
// All that goes for one mount namespace: a process sees the mounts of its own, and mounts that propagate to it. In a
// namespace that does not see a host mount, Get makes another one, without the shared page cache. Init, Put, Remove and
// Cleanup unmount what they see and leave mount points alone, because removing one detaches what is mounted there in
// all namespaces; that happens only when the volume itself is removed. A layer's own mount point is renewed by Put, so
// that no other namespace keeps the layer mounted.
//
// The driver never makes its home a private mount: Kata's shims live in mount namespaces of their own and see the host
// mounts by propagation only.
//
// What a process has read of the store's files it remembers for as long as they stay the same files (see records): the
// start of a container costs one look at each volume, whatever the number of containers. Layers and volumes never
// change while they have users.
//
// # Locking and crashes
//
// store.lock is held for as long as layers, links or mounts change, but not while a layer is converted, which takes as
// long as its download does, nor while an image volume is made or a volume is checked. containers/storage's locks are
// held for all that a call of its does, so what can wait is done aside (see background). What is half-made stays in a
// directory of its own in tmp/, on which the owner holds a flock(2). Whoever can take the flock knows that the owner
// is dead and may delete the directory; Init does.
//
// A layer becomes a volume layer in steps, each of which is durable before the next and harmless without it:
//
//  1. The files are written to tmp/ and synced. A crash leaves a directory in tmp/.
//  2. The directory is renamed to volumes/<name>. A crash leaves a volume with a link count of 1.
//  3. layers/<id>/volume.erofs is linked to it. A crash leaves a link in a layer that still says it is a directory.
//  4. layer.json is replaced and now says that the layer is a volume.
//
// An image volume gets to its place by the same steps, with image.erofs for the link and image.json, last, for the
// record. Who makes one holds a flock(2) on the top layer's directory, so that others wait for it and take it.
//
// Init removes all of these leftovers. Remove works in place and writes nothing, so that it works on a full disk, too:
// layer.json goes first, which makes the layer a half-made one, then the link and the rest of the layer's directory,
// then the volume if that was the last link.
package driver
