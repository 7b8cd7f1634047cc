package trap

import "golang.org/x/sys/unix"

// entry says where a call has its arguments; -1: it has no such one.
type entry struct {
	name     string
	dirArg   int // the descriptor of a directory that a path starts from, or of a file
	pathArg  int
	flagsArg int // of openat: whether it changes something depends on them
	reads    bool
}

func changesFile(name string, fd int) entry      { return entry{name, fd, -1, -1, false} }
func changesAt(name string, dir, path int) entry { return entry{name, dir, path, -1, false} }
func changesPath(name string, path int) entry    { return entry{name, -1, path, -1, false} }
func readsFile(name string) entry                { return entry{name, 0, -1, -1, true} }
func readsAt(name string) entry                  { return entry{name, 0, 1, -1, true} }

// table has the calls that are watched, by number.
var table = map[uint32]entry{
	unix.SYS_OPENAT:  {"openat", 0, 1, 2, true},
	unix.SYS_OPENAT2: readsAt("openat2"),

	unix.SYS_WRITE:           changesFile("write", 0),
	unix.SYS_PWRITE64:        changesFile("pwrite64", 0),
	unix.SYS_COPY_FILE_RANGE: changesFile("copy_file_range", 2),
	unix.SYS_SENDFILE:        changesFile("sendfile", 0),
	unix.SYS_FTRUNCATE:       changesFile("ftruncate", 0),
	unix.SYS_FALLOCATE:       changesFile("fallocate", 0),
	unix.SYS_FSYNC:           changesFile("fsync", 0),
	unix.SYS_FDATASYNC:       changesFile("fdatasync", 0),
	unix.SYS_SYNCFS:          changesFile("syncfs", 0),
	unix.SYS_FCHMOD:          changesFile("fchmod", 0),
	unix.SYS_FCHOWN:          changesFile("fchown", 0),
	unix.SYS_FLOCK:           changesFile("flock", 0),
	unix.SYS_IOCTL:           changesFile("ioctl", 0),

	unix.SYS_MKDIRAT:    changesAt("mkdirat", 0, 1),
	unix.SYS_MKNODAT:    changesAt("mknodat", 0, 1),
	unix.SYS_UNLINKAT:   changesAt("unlinkat", 0, 1),
	unix.SYS_FCHMODAT:   changesAt("fchmodat", 0, 1),
	unix.SYS_FCHOWNAT:   changesAt("fchownat", 0, 1),
	unix.SYS_UTIMENSAT:  changesAt("utimensat", 0, 1),
	unix.SYS_RENAMEAT:   changesAt("renameat", 2, 3),
	unix.SYS_RENAMEAT2:  changesAt("renameat2", 2, 3),
	unix.SYS_LINKAT:     changesAt("linkat", 2, 3),
	unix.SYS_SYMLINKAT:  changesAt("symlinkat", 1, 2),
	unix.SYS_LSETXATTR:  changesPath("lsetxattr", 0),
	unix.SYS_SETXATTR:   changesPath("setxattr", 0),
	unix.SYS_MOUNT:      changesPath("mount", 1),
	unix.SYS_UMOUNT2:    changesPath("umount2", 0),
	unix.SYS_MOVE_MOUNT: changesAt("move_mount", 2, 3),
	unix.SYS_FSOPEN:     {"fsopen", -1, -1, -1, false},
	unix.SYS_FSCONFIG:   {"fsconfig", -1, -1, -1, false},
	unix.SYS_FSMOUNT:    {"fsmount", -1, -1, -1, false},
	unix.SYS_OPEN_TREE:  {"open_tree", 0, 1, -1, false},

	unix.SYS_MOUNT_SETATTR: changesAt("mount_setattr", 0, 1),

	unix.SYS_READ:       readsFile("read"),
	unix.SYS_PREAD64:    readsFile("pread64"),
	unix.SYS_GETDENTS64: readsFile("getdents64"),
	unix.SYS_FSTAT:      readsFile("fstat"),
	unix.SYS_STATX:      readsAt("statx"),
	unix.SYS_READLINKAT: readsAt("readlinkat"),
}
