package crio_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestVMDisk: with erofs.rw_layer=ext4 a container writes to a disk of the host's, unless its mode promises verity.
func TestVMDisk(t *testing.T) {
	server := startVM(t, withImageVolumes, func(o *crio.Options) {
		o.StorageOptions = append(o.StorageOptions, "erofs.rw_layer=ext4", "erofs.rw_size=16M")
	})
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	set(t, server, "auto", kata.ModeLayer)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM}))
	for mode, disk := range map[kata.Mode]bool{kata.ModeLayer: true, kata.ModeImage: true, kata.ModeImageVerity: false} {
		if err := pod.ProbeDisk(ctx, ref, request(mode).Annotations, disk); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
	info, err := pod.GuestInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	upper := func(m string) bool { return strings.Contains(m, "/multi-layer/upper ext4 rw,") }
	if n := len(slices.DeleteFunc(info.Mounts, func(m string) bool { return !upper(m) })); n != 3 { // pause has one, too
		t.Errorf("the guest has %d writable disks, want 3", n)
	}
}
