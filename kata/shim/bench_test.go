package shim

import (
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

// BenchmarkCreate is a create with two volumes: the real shim sees one through the proxy only.
func BenchmarkCreate(b *testing.B) {
	r := newRig(b)
	pod, _, c := r.pod("pod")
	for b.Loop() {
		r.mustCreate(c, pod)
	}
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
