package agent

import (
	"fmt"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// homeOf returns the home directory that the container's /etc/passwd gives a user, or /.
func homeOf(uid uint32) string {
	const none = "/"
	path, err := user.GetPasswdPath()
	if err != nil {
		return none
	}
	entries, err := user.ParsePasswdFileFilter(path, func(u user.User) bool { return u.Uid == int(uid) })
	if err != nil || len(entries) == 0 || entries[0].Home == "" {
		return none
	}
	return entries[0].Home
}

// setCredentials makes the calling thread the user that the process runs as: the last thing before execve.
func setCredentials(p *specs.Process) error {
	for _, l := range p.Rlimits {
		if err := setRlimit(l); err != nil {
			return err
		}
	}
	caps, err := capability.NewPid2(0)
	if err != nil {
		return err
	}
	if p.Capabilities != nil {
		if err := applyBounding(caps, p.Capabilities); err != nil {
			return err
		}
	}
	if err := setUser(&p.User); err != nil {
		return err
	}
	if p.Capabilities != nil {
		if err := applyCapabilities(caps, p.Capabilities); err != nil {
			return err
		}
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return nil
}

// setUser changes the ids of this thread only: no other thread survives execve. Capabilities are kept until
// applyCapabilities says which stay.
func setUser(u *specs.User) error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	groups := make([]int, 0, len(u.AdditionalGids))
	for _, g := range u.AdditionalGids {
		groups = append(groups, int(g))
	}
	if err := unix.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups %v: %w", groups, err)
	}
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("set gid %d: %w", u.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("set uid %d: %w", u.UID, errno)
	}
	if u.Umask != nil {
		unix.Umask(int(*u.Umask))
	}
	return unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
}

func applyBounding(caps capability.Capabilities, want *specs.LinuxCapabilities) error {
	caps.Clear(capability.BOUNDS)
	if err := setCaps(caps, capability.BOUNDS, want.Bounding); err != nil {
		return err
	}
	if err := caps.Apply(capability.BOUNDS); err != nil {
		return fmt.Errorf("set the capability bounding set: %w", err)
	}
	return nil
}

func applyCapabilities(caps capability.Capabilities, want *specs.LinuxCapabilities) error {
	caps.Clear(capability.CAPS | capability.AMBS)
	for kind, names := range map[capability.CapType][]string{
		capability.EFFECTIVE: want.Effective, capability.PERMITTED: want.Permitted,
		capability.INHERITABLE: want.Inheritable, capability.AMBIENT: want.Ambient,
	} {
		if err := setCaps(caps, kind, names); err != nil {
			return err
		}
	}
	if err := caps.Apply(capability.CAPS | capability.AMBS); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

func setCaps(caps capability.Capabilities, kind capability.CapType, names []string) error {
	for _, name := range names {
		c, ok := capByName[name]
		if !ok {
			return fmt.Errorf("unknown capability %q", name)
		}
		caps.Set(kind, c)
	}
	return nil
}

// capByName has the names of the OCI specification, such as CAP_CHOWN.
var capByName = func() map[string]capability.Cap {
	m := map[string]capability.Cap{}
	for _, c := range capability.ListKnown() {
		m["CAP_"+strings.ToUpper(c.String())] = c
	}
	return m
}()

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func setRlimit(l specs.POSIXRlimit) error {
	resource, ok := rlimits[l.Type]
	if !ok {
		return fmt.Errorf("unknown rlimit %q", l.Type)
	}
	if err := unix.Prlimit(0, resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
		return fmt.Errorf("set %s to %d:%d: %w", l.Type, l.Soft, l.Hard, err)
	}
	return nil
}
