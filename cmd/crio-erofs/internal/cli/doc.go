// Package cli has what the commands of crio-erofs have in common.
package cli

// Version of the program, for who asks and for registries.
var Version = "dev"
