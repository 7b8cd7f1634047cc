// Package guest makes what the stand-in's VM boots: a Debian cloud kernel, unpacked from its package without installing
// it, and an initrd with the agent as init and the kernel modules it needs. Both are kept in a directory that later
// calls find again.
package guest
