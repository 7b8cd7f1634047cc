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
	const fill = `head -c 24M /dev/zero > /large; echo $?; rm /large; echo room > /small && cat /small /etc/motd`
	for mode, disk := range map[kata.Mode]bool{kata.ModeLayer: true, kata.ModeImage: true, kata.ModeImageVerity: false} {
		_, result, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"sh", "-c", fill},
			Annotations: map[string]string{kata.AnnotationRequest: string(mode)}})
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{true: "1", false: "0"}[disk] + "\nroom\n" + motd
		if full := strings.Contains(result.Stderr, "No space left on device"); full != disk || result.Stdout != want {
			t.Errorf("%s: %+v", mode, result)
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
