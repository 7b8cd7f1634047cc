package driver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containers/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/trap"
)

// storageAccidents is how often TestStorageAccidents kills, and has a call fail, in each of its modes.
const storageAccidents = 8

// TestStorageAccidents has processes use containers/storage as CRI-O does. Each is killed at a system call that changes
// something, or has one of its calls fail: then the step fails, and is done once more by the same process. After each, a
// new process has containers/storage check and repair itself. What was complete has to be there and nothing else be
// left, and it all goes on.
func TestStorageAccidents(t *testing.T) {
	needRoot(t)
	for i, mode := range []struct {
		name    string
		disk    func(testing.TB) string
		options []string
	}{
		{"ext4", ext4, nil},
		{"split", twoDisks, nil},
		{"image volumes", xfs, []string{"erofs.rw_layer=ext4", "erofs.rw_size=16M"}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			n := &storageNode{
				t: t, root: mode.disk(t), options: mode.options, rng: rand.New(rand.NewPCG(2, uint64(i))), seen: map[string]int{},
				state: storageState{Containers: map[string]int{}},
			}
			cleanUp(t, filepath.Join(n.root, "graph"))
			n.live()
		})
	}
}

// storageNode is a node whose processes have accidents.
type storageNode struct {
	t       *testing.T
	root    string
	options []string
	rng     *rand.Rand
	state   storageState
	next    int            // number of the next container
	seen    map[string]int // how often a process made each call, at most

	rounds, kills, faults, errors int
}

// roots returns where the node has stores.
func (n *storageNode) roots() []string {
	return append([]string{filepath.Join(n.root, "graph")}, roots(n.root)[1:]...)
}

func (n *storageNode) live() {
	for (n.kills < storageAccidents || n.faults < storageAccidents) && !n.t.Failed() {
		if n.rounds++; n.rounds > 10*storageAccidents {
			n.t.Fatalf("only %d kills and %d faults in %d lives", n.kills, n.faults, n.rounds)
		}
		n.round()
	}
	n.t.Logf("%d kills, %d faults, of which %d became errors", n.kills, n.faults, n.errors)
	if n.errors == 0 {
		n.t.Error("no fault became an error")
	}
	var steps []storageStep
	for c := range n.state.Containers {
		steps = append(steps, storageStep{Op: "stop", Container: c}, storageStep{Op: "remove", Container: c})
	}
	for _, image := range n.state.Images {
		steps = append(steps, storageStep{Op: "rmi", Image: image})
	}
	if out, err := n.process(storageLife{Steps: steps}, func(*trap.Call) trap.Verdict { return trap.Go }); err != nil {
		n.t.Errorf("%v: %s", err, out)
	}
	n.mend(true)
	for _, root := range n.roots() {
		for _, dir := range []string{"layers", "volumes", "mounts", "tmp"} {
			wantNames(n.t, root, dir, 0)
		}
		if left := mountsIn(n.t, root, ""); len(left) > 1 { // containers/storage's own, of the driver's home
			n.t.Errorf("%d mounts left", len(left))
		}
	}
}

// round has a process take some steps, with an accident, and looks at what it leaves.
func (n *storageNode) round() {
	steps := n.plan()
	name, nth := n.aim()
	kill := n.faults >= storageAccidents || n.kills < storageAccidents && n.rng.IntN(2) == 0
	at := ""
	calls := map[string]int{}
	out, err := n.process(storageLife{Steps: steps}, func(c *trap.Call) trap.Verdict {
		path := c.Path()
		if !c.Changes() || !c.Within(n.root) || !kill && strings.HasSuffix(path, ".lock") {
			return trap.Go // containers/storage panics if it cannot open, write or close a lock
		}
		if calls[c.Name()]++; c.Name() != name || calls[name] != nth {
			return trap.Go
		}
		at = c.String()
		if kill {
			return trap.Kill
		}
		n.faults++
		return trap.Fail([]unix.Errno{unix.EIO, unix.ENOSPC}[n.faults%2])
	})
	for name, count := range calls {
		n.seen[name] = max(n.seen[name], count)
	}
	switch {
	case errors.Is(err, trap.ErrKilled):
		n.kills++
	case err != nil && !strings.Contains(out, "begin 0"):
		n.errors++ // the store did not open, and systemd starts CRI-O again
	case err != nil:
		n.t.Errorf("with %s failing, after %+v: %v: %s", at, steps, err, out)
	}
	if strings.Contains(out, "failed ") {
		n.errors++
	}
	n.settle(steps, out)
	if n.t.Failed() {
		n.t.Logf("kill %v, at %s, in %+v: %s", kill, at, steps, out)
	}
}

// plan makes some steps that the state allows.
func (n *storageNode) plan() []storageStep {
	images, containers := slices.Clone(n.state.Images), maps.Clone(n.state.Containers)
	var steps []storageStep
	for len(steps) < 5 {
		step := storageStep{Op: "pull", Image: n.rng.IntN(storageImages)}
		there := slices.Contains(images, step.Image)
		switch choice := n.rng.IntN(3); {
		case !there:
			images = append(images, step.Image)
		case choice == 0:
			step.Op, step.Container = "run", fmt.Sprintf("container%d", n.next)
			n.next++
			containers[step.Container] = step.Image
		case choice == 1 && len(containers) > 0:
			names := slices.Sorted(maps.Keys(containers))
			c := names[n.rng.IntN(len(names))]
			steps = append(steps, storageStep{Op: "stop", Container: c})
			step = storageStep{Op: "remove", Container: c}
			delete(containers, c)
		case !slices.Contains(slices.Collect(maps.Values(containers)), step.Image):
			step.Op = "rmi"
			images = slices.DeleteFunc(images, func(i int) bool { return i == step.Image })
		default:
			continue
		}
		steps = append(steps, step)
	}
	return steps
}

// aim says at which call an accident happens; the first lives are spared.
func (n *storageNode) aim() (name string, nth int) {
	if n.rounds <= 4 {
		return "", 0
	}
	names := slices.Sorted(maps.Keys(n.seen))
	name = names[n.rng.IntN(len(names))]
	return name, 1 + n.rng.IntN(n.seen[name])
}

// settle has the store mended and compares what it has with what the steps should have made of it, by what the process
// said. Of a step that was not ended either may be true, and of one that failed at first: containers/storage may do
// it in memory and not on the disk.
func (n *storageNode) settle(steps []storageStep, out string) {
	begun, done := strings.Count(out, "begin "), strings.Count(out, "end ")
	images, containers := map[int]bool{}, map[string]bool{}
	for _, image := range n.state.Images {
		images[image] = true
	}
	for c := range n.state.Containers {
		containers[c] = true
	}
	for i, s := range steps[:begun] {
		switch {
		case i >= done, strings.Contains(out, fmt.Sprintf("failed %d: ", i)):
			delete(images, s.Image) // nothing is known of them
			delete(containers, s.Container)
		case s.Op == "pull":
			images[s.Image] = true
		case s.Op == "rmi":
			images[s.Image] = false
		case s.Op == "run":
			containers[s.Container] = true
		case s.Op == "remove":
			containers[s.Container] = false
		}
	}
	n.mend(false)
	for image, want := range images {
		if slices.Contains(n.state.Images, image) != want {
			n.t.Errorf("image %d is there: %v", image, !want)
		}
	}
	for c, want := range containers {
		if _, ok := n.state.Containers[c]; ok != want {
			n.t.Errorf("container %s is there: %v", c, !want)
		}
	}
}

// mend does what CRI-O does after an unclean stop, and looks whether all is sound then.
func (n *storageNode) mend(empty bool) {
	n.t.Helper()
	out, err := n.process(storageLife{Mend: true, Empty: empty}, nil)
	if err != nil {
		n.t.Fatalf("the store cannot be mended: %v: %s", err, out)
	}
	n.state = storageState{}
	if err := json.Unmarshal([]byte(out), &n.state); err != nil {
		n.t.Fatal(err)
	}
	if n.state.Damaged != "" {
		n.t.Errorf("after repairs, containers/storage finds %s", n.state.Damaged)
	}
	checkSoundStores(n.t, n.roots())
}

// process runs a process that uses containers/storage, and returns what it says.
func (n *storageNode) process(l storageLife, decide func(*trap.Call) trap.Verdict) (out string, err error) {
	l.Root, l.Options = n.root, n.options
	input, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	cmd := reexec.Command(storageLifeName)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if decide == nil {
		err = cmd.Run()
	} else {
		err = trap.Run(cmd, decide)
	}
	if err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}
