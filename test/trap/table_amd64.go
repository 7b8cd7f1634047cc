package trap

import "golang.org/x/sys/unix"

// Calls of C programs, and of Go, that newer architectures do not have.
func init() {
	for nr, e := range map[uint32]entry{
		unix.SYS_OPEN:       {"open", -1, 0, 1, true},
		unix.SYS_CREAT:      changesPath("creat", 0),
		unix.SYS_MKDIR:      changesPath("mkdir", 0),
		unix.SYS_RMDIR:      changesPath("rmdir", 0),
		unix.SYS_UNLINK:     changesPath("unlink", 0),
		unix.SYS_RENAME:     changesPath("rename", 1),
		unix.SYS_LINK:       changesPath("link", 1),
		unix.SYS_SYMLINK:    changesPath("symlink", 1),
		unix.SYS_MKNOD:      changesPath("mknod", 0),
		unix.SYS_CHMOD:      changesPath("chmod", 0),
		unix.SYS_CHOWN:      changesPath("chown", 0),
		unix.SYS_LCHOWN:     changesPath("lchown", 0),
		unix.SYS_TRUNCATE:   changesPath("truncate", 0),
		unix.SYS_NEWFSTATAT: readsAt("newfstatat"),
	} {
		table[nr] = e
	}
}
