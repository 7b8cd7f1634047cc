package shim

import (
	"fmt"
	"path/filepath"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v2"
)

// BenchmarkCall compares a call through the proxy with one to the real shim itself.
func BenchmarkCall(b *testing.B) {
	r := newRig(b)
	_, address, c := r.pod("pod")
	for name, address := range map[string]string{"proxy": address, "direct": unixScheme + r.peerDir() + "/pod.sock"} {
		c := r.connect(address)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.State(b.Context(), &task.StateRequest{ID: "x"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	r.shutdown(c, "pod")
}

// BenchmarkCreate compares a create through the proxy, which finds out and checks the volumes, with one to the real shim
// itself.
func BenchmarkCreate(b *testing.B) {
	r := newRig(b)
	_, address, c := r.pod("pod")
	direct := r.connect(unixScheme + r.peerDir() + "/pod.sock")
	for _, volumes := range []int{1, 2, 20} {
		ctr := newFixture(r, filepath.Join(r.dir, "s"), fmt.Sprint("ctr", volumes), "container", "pod", volumes)
		for name, c := range map[string]*client{"direct": direct, "proxy": r.connect(address)} {
			b.Run(fmt.Sprintf("%s/%d-volumes", name, volumes), func(b *testing.B) {
				for b.Loop() {
					r.mustCreate(c, ctr)
				}
			})
		}
	}
	r.checkMemory(r.process(daemonArg))
	r.shutdown(c, "pod")
}

// BenchmarkStart is the start of a pod's second container, real shim included.
func BenchmarkStart(b *testing.B) {
	r := newRig(b)
	_, _, c := r.pod("pod")
	ctr := r.fixture("ctr", "pod")
	for b.Loop() {
		r.mustStart(ctr)
	}
	r.shutdown(c, "pod")
}
