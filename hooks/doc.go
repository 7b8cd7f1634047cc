// Package hooks decides which annotations of this project a container gets. It reads the manifest that the graph
// driver writes beside the container's mount point, and nothing else of the store: no locks, no waiting for a pull.
//
// Whoever calls it before a container is created (package hooks/nri does) sets and removes what Annotate says, for
// every container, also for those that have nothing to do with this project: whatever a pod's author wrote under keys
// of this project is gone afterwards.
package hooks
