package crio_test

import (
	"testing"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestVMProcess: what CRI asks for a container's process is right in the guest, and so is what CRI-O learns of its end.
func TestVMProcess(t *testing.T) {
	server := startVM(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM}))
	if err := pod.Probe(ctx, ref, t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := pod.ProbeLife(ctx, ref); err != nil {
		t.Error(err)
	}
	for _, script := range []string{crio.OOMFirst, crio.OOMChild} {
		if err := pod.ProbeOOM(ctx, ref, script); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	}
	// The guest lives on, and so does its pod.
	startSleeper(t, pod, ref)
}
