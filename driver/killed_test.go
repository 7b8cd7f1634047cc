package driver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/reexec"
	"github.com/moby/sys/mountinfo"

	"github.com/crio-erofs/crio-erofs/test/trap"
)

// kills is how often TestKilledAnywhere kills, over all of its modes.
const kills = 220

// TestKilledAnywhere lets processes use one store, and kills each at some system call of its that changes something. A
// kill between two such calls is the same as one at the second of them. After each, a new process opens the store: what
// was complete has to be there and to verify, and nothing else has.
func TestKilledAnywhere(t *testing.T) {
	needRoot(t)
	modes := []struct {
		name    string
		disk    func(testing.TB) string
		options []string
	}{
		{"ext4", ext4, nil},
		{"loop", ext4, []string{"erofs.mount=loop"}},
		{"image", xfs, nil},
		{"split", twoDisks, nil},
		{"tarfs", ext4, []string{"erofs.layout=tarfs", "erofs.verity=off"}},
		{"background", ext4, []string{"erofs.image_volume=background", "erofs.verify=on-mount"}},
	}
	for i, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			n := &node{
				t: t, root: mode.disk(t), options: mode.options, rng: rand.New(rand.NewPCG(1, uint64(i))),
				layers: map[string]*known{}, seen: map[string]int{}, hit: map[string]int{},
			}
			cleanUp(t, n.root)
			n.live(kills / len(modes))
		})
	}
}

// known is a layer that is known to be complete.
type known struct {
	step
	children int
	mounted  bool
	seen     bool // its content was looked at
}

// node is a node whose processes get killed, and what has to be in its store.
type node struct {
	t       *testing.T
	root    string
	options []string
	rng     *rand.Rand
	layers  map[string]*known
	next    int            // number of the next layer
	seen    map[string]int // how often a process made each call, at most: where kills are aimed
	rounds  int
	kills   int
	hit     map[string]int // calls at which processes were killed
}

func (n *node) live(kills int) {
	for n.kills < kills && !n.t.Failed() {
		if n.rounds++; n.rounds > 3*kills {
			n.t.Fatalf("only %d kills in %d lives", n.kills, n.rounds)
		}
		n.round()
	}
	n.t.Logf("%d kills at %v", n.kills, n.hit)
	// Everything can be removed, and then nothing is left.
	d := n.open()
	for len(n.layers) > 0 && !n.t.Failed() {
		for id, k := range n.layers {
			if k.children > 0 {
				continue
			}
			if err := d.Remove(id); err != nil {
				n.t.Fatal(err)
			}
			n.forget(id)
		}
	}
	for _, root := range roots(n.root) {
		for _, dir := range []string{"layers", "volumes", "mounts", "tmp"} {
			wantNames(n.t, root, dir, 0)
		}
		if left := mountsIn(n.t, root, ""); len(left) != 0 {
			n.t.Errorf("%d mounts left", len(left))
		}
	}
}

func (n *node) open() graphdriver.Driver {
	n.t.Helper()
	d, err := openDriver(n.root, n.options...)
	if err != nil {
		n.t.Fatalf("the store does not open: %v", err)
	}
	return d
}

// round lets a process live and be killed, and then looks at the store.
func (n *node) round() {
	steps := n.plan()
	done, begun, at := n.run(steps)
	for _, s := range steps[:done] {
		n.learn(s)
	}
	d := n.open()
	if begun > done {
		n.settle(d, steps[done])
	}
	n.check(d)
	if n.t.Failed() {
		n.t.Logf("kill %d was at %s; after %+v; in %+v", n.kills, at, steps[:done], steps[done:begun])
	}
}

// plan makes some steps that the store allows.
func (n *node) plan() []step {
	type state struct {
		children           int
		container, mounted bool
		parent             string
	}
	now := map[string]*state{}
	for id, k := range n.layers {
		now[id] = &state{k.children, k.Op == "start", k.mounted, k.Parent}
	}
	pick := func(may func(*state) bool) string {
		var ids []string
		for id, s := range now {
			if may(s) {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			return ""
		}
		slices.Sort(ids) // so that the seed alone decides
		return ids[n.rng.IntN(len(ids))]
	}
	var steps []step
	for len(steps) < 6 {
		s := step{ID: fmt.Sprintf("layer%d", n.next)}
		image := pick(func(s *state) bool { return !s.container })
		choice := n.rng.IntN(5)
		if len(now) > 12 {
			choice = 4 // or the checks would take longer and longer
		}
		switch choice {
		case 0, 1:
			s.Op, s.Content = "pull", n.rng.IntN(contents)
			if n.rng.IntN(3) > 0 {
				s.Parent = image
			}
			now[s.ID] = &state{parent: s.Parent}
		case 2:
			if s.Op, s.Parent = "start", image; image == "" {
				continue
			}
			now[s.ID] = &state{container: true, mounted: true, parent: image}
		case 3:
			if s.Op, s.ID = "stop", pick(func(s *state) bool { return s.mounted }); s.ID == "" {
				continue
			}
			now[s.ID].mounted = false
		case 4:
			if s.Op, s.ID = "remove", pick(func(s *state) bool { return s.children == 0 }); s.ID == "" || len(now) < 8 {
				continue
			}
			s.Parent = now[s.ID].parent
			delete(now, s.ID)
			if p := now[s.Parent]; p != nil {
				p.children--
			}
		}
		if s.Op == "pull" || s.Op == "start" {
			n.next++
			if p := now[s.Parent]; p != nil {
				p.children++
			}
		}
		steps = append(steps, s)
	}
	return steps
}

// run has a process take the steps, kills it at some call, and returns how many steps it has ended and begun, and where
// it was killed.
func (n *node) run(steps []step) (done, begun int, at string) {
	input, err := json.Marshal(life{Root: n.root, Options: n.options, Steps: steps})
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := reexec.Command(lifeName)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	name, nth := n.aim()
	calls := map[string]int{}
	err = trap.Run(cmd, func(c *trap.Call) trap.Verdict {
		if !c.Changes() || !c.Within(n.root) {
			return trap.Go
		}
		if calls[c.Name()]++; c.Name() != name || calls[name] < nth {
			return trap.Go
		}
		at = c.String()
		n.hit[name]++
		return trap.Kill
	})
	switch {
	case errors.Is(err, trap.ErrKilled):
		n.kills++
	case err != nil:
		n.t.Fatalf("after %d kills: %v: %s", n.kills, err, stderr.String())
	}
	for name, count := range calls {
		n.seen[name] = max(n.seen[name], count)
	}
	return strings.Count(stdout.String(), "end "), strings.Count(stdout.String(), "begin "), at
}

// aim says at which call to kill. All kinds of calls get their share: there are many more writes than renames. The first
// lives are spared, to see what calls there are.
func (n *node) aim() (name string, nth int) {
	if n.rounds <= 5 {
		return "", 0
	}
	names := slices.Sorted(maps.Keys(n.seen))
	name = names[n.rng.IntN(len(names))]
	return name, 1 + n.rng.IntN(n.seen[name])
}

// learn takes note of a step that was completed.
func (n *node) learn(s step) {
	switch s.Op {
	case "pull", "start":
		n.layers[s.ID] = &known{step: s, mounted: s.Op == "start"}
		if p := n.layers[s.Parent]; p != nil {
			p.children++
		}
	case "stop":
		n.layers[s.ID].mounted = false
	case "remove":
		n.forget(s.ID)
	}
}

func (n *node) forget(id string) {
	if p := n.layers[n.layers[id].Parent]; p != nil {
		p.children--
	}
	delete(n.layers, id)
}

// settle looks what became of the step in which the process was killed, and does what containers/storage does about a
// layer that was not finished: it removes it.
func (n *node) settle(d graphdriver.Driver, s step) {
	there := d.Exists(s.ID)
	switch s.Op {
	case "pull":
		if m, err := d.Metadata(s.ID); err == nil && m["Kind"] == "volume" {
			n.learn(s)
			return
		}
	case "start":
		if there {
			n.learn(s)
			n.layers[s.ID].mounted = n.isMounted(s.ID)
			return
		}
	case "stop":
		n.layers[s.ID].mounted = n.isMounted(s.ID)
		return
	case "remove":
		if !there {
			n.forget(s.ID)
			return
		}
		// Not begun in earnest. A container may have been unmounted already.
		n.layers[s.ID].mounted = n.isMounted(s.ID)
		return
	}
	if err := d.Remove(s.ID); err != nil {
		n.t.Errorf("remove what was half-made: %v", err)
	}
}

func (n *node) isMounted(id string) bool {
	return slices.ContainsFunc(mountsIn(n.t, n.root, "layers"), func(m *mountinfo.Info) bool {
		return m.Mountpoint == filepath.Join(n.root, "erofs/layers", id, "merged")
	})
}

// check compares the store with what has to be in it.
func (n *node) check(d graphdriver.Driver) {
	n.t.Helper()
	checkSound(n.t, n.root)
	ids, err := d.ListLayers()
	if err != nil {
		n.t.Error(err)
	}
	slices.Sort(ids)
	if want := slices.Sorted(maps.Keys(n.layers)); !slices.Equal(ids, want) {
		n.t.Errorf("the store has the layers %v, want %v", ids, want)
	}
	for _, id := range slices.Sorted(maps.Keys(n.layers)) {
		k := n.layers[id]
		if k.seen && n.rng.IntN(4) > 0 {
			continue // to save time
		}
		k.seen = true
		if k.Op == "pull" {
			checkContent(n.t, d, id, k.Content)
		} else {
			n.checkContainer(d, id, k)
		}
	}
}

// checkContainer reads what a container wrote and what it has of its image, and mounts it for that if it is not.
func (n *node) checkContainer(d graphdriver.Driver, id string, k *known) {
	if mounted := n.isMounted(id); mounted != k.mounted {
		n.t.Errorf("container %s: mounted is %v, want %v", id, mounted, k.mounted)
	}
	root, err := d.Get(id, graphdriver.MountOpts{})
	if err != nil {
		n.t.Errorf("container %s: %v", id, err)
		return
	}
	image := n.layers[k.Parent]
	name := fmt.Sprintf("shared/%d", image.Content)
	if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(b) != fmt.Sprint("layer ", image.Content) {
		n.t.Errorf("container %s has %q in %s (%v)", id, b, name, err)
	}
	if k.mounted {
		return // Put would unmount it
	}
	if err := stop(d, id); err != nil {
		n.t.Errorf("container %s: %v", id, err)
	}
}
