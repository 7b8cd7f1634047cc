// Package kernels has tests that mount volumes on old kernels, in VMs: that format.md names the right versions.
package kernels
