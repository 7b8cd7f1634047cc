// Package trap watches the system calls with which a program changes or reads files and mounts, and ends the program at
// one of them, or has one fail: for tests of crashes and of failures that no disk produces on demand.
//
// The kernel does the work, by seccomp's user notification (seccomp_unotify(2)): the watched process arms a filter for
// all its threads and hands the filter's listener to its parent, and each call then waits for the parent's verdict.
// Nothing in the watched code has to know about it, programs that it starts are watched, too, and a call that is made to
// fail does not happen, exactly as if the kernel had refused it.
package trap
