package driver

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/containers/storage/pkg/idtools"
)

// usernsProcess starts a process that does nothing but have a user namespace with these mappings, until end is called,
// by the same goroutine.
//
// containers/storage has idmap.CreateUsernsProcess for it, which clones this process without executing anything. That is
// no safe thing to do with Go's runtime: the copy has been seen to live on, busy, with all files of CRI-O open, so that
// CRI-O did not end and its plugin did not, either. This process executes this program anew, and is stopped by ptrace(2)
// before its first instruction.
func usernsProcess(uids, gids []idtools.IDMap) (pid int, end func(), err error) {
	runtime.LockOSThread() // the tracer is a thread, and it is its death that Pdeathsig is about
	p, err := os.StartProcess("/proc/self/exe", []string{Name + "-userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: sysMaps(uids), GidMappings: sysMaps(gids),
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		runtime.UnlockOSThread()
		return 0, nil, fmt.Errorf("process with a user namespace: %w", err)
	}
	return p.Pid, func() {
		defer runtime.UnlockOSThread()
		if err := p.Kill(); err != nil {
			log.WithField(fieldPID, p.Pid).WithError(err).Warn("A process with a user namespace may stay")
			return
		}
		if _, err := p.Wait(); err != nil {
			log.WithField(fieldPID, p.Pid).WithError(err).Warn("A process with a user namespace did not end as it should")
		}
	}, nil
}

func sysMaps(maps []idtools.IDMap) []syscall.SysProcIDMap {
	sys := make([]syscall.SysProcIDMap, len(maps))
	for i, m := range maps {
		sys[i] = syscall.SysProcIDMap{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size}
	}
	return sys
}
