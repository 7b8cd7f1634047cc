// Package cli has what the commands of crio-erofs have in common.
package cli

// Version of the program, for who asks and for registries.
var Version = "dev"

// DefaultGraphRoot is where CRI-O keeps images if storage.conf does not say otherwise.
const DefaultGraphRoot = "/var/lib/containers/storage"
