// Crio-erofs-installer copies this project's files from a container image to the node that its pod runs on, and takes
// them away again. It writes files and does nothing else: no service is restarted or reloaded, no node is labelled.
//
// The image has the files below /payload, under the names that they get on the node, whose directories are mounted below
// /host (contrib/kubernetes/daemonset.yaml).
//
// What decides which CRI-O and which storage driver a node runs is one file, the drop-in of crio.service, which names
// both. So there is no moment at which a CRI-O without the driver finds a configuration that wants it, whenever it is
// restarted, by whomever: it is the node's own CRI-O with the node's own driver until systemd has read that file.
package main
