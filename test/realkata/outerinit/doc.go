// Package outerinit is the first process of the VM of package outer: it makes the machine's file system the VM's own
// and runs the commands that come in.
package outerinit
