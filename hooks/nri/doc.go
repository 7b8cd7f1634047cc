// Package nri is the front end of package hooks for NRI, the interface by which CRI-O asks plugins about every
// container that it is about to create (https://github.com/containerd/nri).
//
// The plugin can be started in two ways. Pre-installed: CRI-O finds the program in its plugin directory, starts it
// with a connected socket, and it lives and dies with CRI-O. External: it is started by someone else and connects
// to CRI-O's NRI socket, waits while there is none, and connects again when CRI-O was restarted.
//
// What NRI does with trouble decides what this package must not do (createContainer and isFatalError in
// pkg/adaptation/plugin.go): an error returned by a plugin fails the creation of the container, but a plugin that
// crashes or takes longer than the runtime's limit (2 s in CRI-O) is only dropped, and containers are created without
// it. Then no annotation of ours is set and none that a pod brought along is removed. The shim therefore never takes
// an annotation's word for it and reads the manifest itself.
package nri
