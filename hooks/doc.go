// Package hooks decides which annotations of this project a container gets: by the configuration of its runtime handler
// (package kata/modes), its pod's request, and the manifest that the graph driver writes beside the container's mount
// point. It reads nothing else of the store: no locks, no waiting for a pull.
//
// Whoever calls it before a container is created (package hooks/nri does, for CRI-O; the hook's precreate stage for
// engines that have one) sets and removes what Annotate says, for every container, also for those that have nothing to
// do with this project: whatever a pod's author wrote under keys of this project is gone afterwards.
//
// Package hooks/guard is the last check, made when the runtime has created a container: see there.
package hooks
