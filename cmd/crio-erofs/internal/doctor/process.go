package doctor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is a process of this machine.
type process struct {
	pid, parent int
	program     string
	args        []string
}

// processes returns those that can be looked at. Some may have ended meanwhile.
func processes() (all []process) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(cmdline) == 0 {
			continue // of the kernel's, or gone
		}
		p := process{pid: pid, parent: parentOf(dir)}
		p.program, _ = os.Readlink(filepath.Join(dir, "exe"))
		p.args = strings.Split(string(bytes.TrimSuffix(cmdline, []byte{0})), "\x00")
		all = append(all, p)
	}
	return all
}

// parentOf reads a process's stat, whose fields are "pid (name) state ppid ..." (proc(5)); the name may have anything in it.
func parentOf(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0
	}
	var state string
	var parent int
	if _, err := fmt.Sscan(string(b[bytes.LastIndexByte(b, ')')+1:]), &state, &parent); err != nil {
		return 0
	}
	return parent
}

func (p *process) isHook() bool {
	return filepath.Base(strings.TrimSuffix(p.program, " (deleted)")) == hookProgram
}
