package trust

import "syscall"

func mtime(st *syscall.Stat_t) syscall.Timespec { return st.Mtim }
func ctime(st *syscall.Stat_t) syscall.Timespec { return st.Ctim }
