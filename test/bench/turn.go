package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// turn is what one run of a contender took.
type turn struct {
	Wall   float64 `json:"wall_s"`
	CPU    float64 `json:"cpu_s"` // user and system, of all its processes
	RSS    int64   `json:"peak_rss_bytes"`
	Others float64 `json:"others_cpu_share"` // CPUs that other processes, or other machines on the host, had meanwhile
}

// disturbed says whether so much else ran that the time means little.
func (t turn) disturbed() bool { return t.Others > 0.15 }

// run executes commands one after another and adds up what they take. The kernel's peak of a process's memory is never
// below that of the process that started it, this one: some 20 MiB.
func run(ctx context.Context, commands ...[]string) (turn, error) {
	var t turn
	before, start := busy(), time.Now()
	for _, argv := range commands {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return t, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, lastBytes(stderr.String(), 2000))
		}
		usage := cmd.ProcessState.SysUsage().(*syscall.Rusage) // getrusage(2): maxrss in KiB
		t.CPU += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
		t.RSS = max(t.RSS, usage.Maxrss<<10)
	}
	t.Wall = time.Since(start).Seconds()
	const grain = 0.02 // s: two processors' ticks
	t.Others = max(0, (busy()-before).Seconds()-t.CPU-grain) / t.Wall
	return t, nil
}

// busy returns how long all processors together have been at work, stolen time included (proc(5), /proc/stat).
func busy() time.Duration {
	const tick = time.Second / 100 // USER_HZ, the same on all architectures that Go knows
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var sum time.Duration
	for i, field := range strings.Fields(line) {
		if n, err := strconv.ParseInt(field, 10, 64); err == nil && slices.Contains([]int{1, 2, 3, 6, 7, 8}, i) {
			sum += time.Duration(n) * tick // user, nice, system, irq, softirq, steal
		}
	}
	return sum
}

// turns are those of one contender.
type turns []turn

// best returns the least of everything. All contenders do the same work each time, so whatever is above that is noise:
// on a virtual machine the same turn may take three times as long when the host has to find memory for it first.
func (ts turns) best() turn {
	best := ts[0]
	for _, t := range ts[1:] {
		best = turn{Wall: min(best.Wall, t.Wall), CPU: min(best.CPU, t.CPU), RSS: min(best.RSS, t.RSS),
			Others: min(best.Others, t.Others)}
	}
	return best
}

func (ts turns) quiet() turns {
	return slices.DeleteFunc(slices.Clone(ts), turn.disturbed)
}

// median returns the median of the times.
func (ts turns) median() float64 {
	values := make([]float64, len(ts))
	for i, t := range ts {
		values[i] = t.Wall
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// peakRSS returns the most memory that any turn needed.
func (ts turns) peakRSS() (peak int64) {
	for _, t := range ts {
		peak = max(peak, t.RSS)
	}
	return peak
}

// alternate lets each of n contenders have its turn in every round. While turns were disturbed and the patience lasts,
// up to as many further rounds are made for those who need them.
func (b *bench) alternate(n int, once func(i int) (turn, error)) ([]turns, error) {
	all := make([]turns, n)
	start := time.Now()
	for round := range 2 * b.rounds {
		if round >= b.rounds && time.Since(start) > b.patience {
			break
		}
		for i := range all {
			if round >= b.rounds && len(all[i].quiet()) >= b.rounds {
				continue
			}
			t, err := once(i)
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], t)
		}
	}
	return all, nil
}

// warmMemory has the kernel hand out and take back so many bytes of memory: where the machine is a virtual one that
// gives free memory back to its host, the first touch of a page costs a lot, and would count against whoever is first.
func warmMemory(dir string, size int64) (err error) {
	f, err := os.Create(filepath.Join(dir, "warm"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	buf := make([]byte, 1<<20)
	for ; size > 0; size -= int64(len(buf)) {
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// warmFile has a file in the page cache, so that nobody waits for a disk.
func warmFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for {
		if n, err := f.Read(buf); n == 0 || err != nil {
			return nil // the contender will complain
		}
	}
}

func describeMachine() string {
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		return ""
	}
	var release []byte
	for _, c := range name.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	return fmt.Sprintf("%d CPUs, Linux %s, %s", runtime.NumCPU(), release, runtime.Version())
}
