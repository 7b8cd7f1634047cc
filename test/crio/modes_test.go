package crio_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// withImageVolumes makes image volumes also where files cannot share blocks.
func withImageVolumes(o *crio.Options) {
	o.StorageOptions = []string{"erofs.layout=aligned", "erofs.verity=on", "erofs.mount=auto", "erofs.image_volume=copy"}
}

// TestVMModes runs containers of one pod in every mode with volumes, side by side, from one store: the configuration
// changes between them, and nothing is restarted.
func TestVMModes(t *testing.T) {
	server := startVM(t, withImageVolumes)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM})) // contrib's configuration
	containers := map[kata.Mode]*crio.Container{"": startSleeper(t, pod, ref)}
	for _, mode := range []kata.Mode{kata.ModeLayerVerity, kata.ModeImage, kata.ModeLayer, kata.ModeImageVerity} {
		if err := server.SetConfig(fmt.Sprintf("[handlers.%s]\nmodes = [%q]\n", crio.HandlerVM, mode)); err != nil {
			t.Fatal(err)
		}
		containers[mode] = startSleeper(t, pod, ref)
	}
	for want, c := range containers {
		if want == "" {
			want = kata.ModeImageVerity
		}
		checkMode(t, pod, c, want)
		if r := must[crio.Result](t)(c.Exec(ctx, "cat", "/etc/motd")); r.Stdout != "This file came out of an EROFS volume.\n" {
			t.Errorf("%s: %+v", want, r)
		}
	}
}

// TestVMRequests lets pods choose among what two handlers allow.
func TestVMRequests(t *testing.T) {
	server := startVM(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	config := fmt.Sprintf("[handlers.%s]\nmodes = [\"image-verity\", \"layer-verity\"]\nallow = [\"layer\"]\n"+
		"[handlers.%s]\nmodes = [\"layer-verity\"]\n", crio.HandlerVM, crio.HandlerVMLayer)
	if err := server.SetConfig(config); err != nil {
		t.Fatal(err)
	}
	opts := request(kata.ModeLayer)
	opts.Handler = crio.HandlerVM
	pod := must[*crio.Pod](t)(server.RunPod(ctx, opts))
	checkMode(t, pod, startSleeper(t, pod, ref), kata.ModeLayer)
	if err := pod.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []struct {
		handler string
		mode    kata.Mode
		want    string
	}{
		{crio.HandlerVM, kata.ModeSharedFS, "the pod requests mode shared-fs, which handler kata-erofs does not allow; a pod " +
			"may request layer"},
		{crio.HandlerVMLayer, kata.ModeImageVerity, "which handler kata-erofs-layer does not allow; a pod may request layer-"},
		{crio.HandlerVMLayer, "best", `mode "best" is unknown; valid are layer, layer-verity, image`},
	} {
		opts := request(refused.mode)
		opts.Handler = refused.handler
		_, err := server.RunPod(ctx, opts) // already the sandbox's own container
		if err == nil || !strings.Contains(err.Error(), refused.want) {
			t.Errorf("%s under %s: %v; want an error with %q", refused.mode, refused.handler, err, refused.want)
		}
	}
}

// checkMode makes sure that a container has the annotations of a mode, and its guest the volumes.
func checkMode(t *testing.T, pod *crio.Pod, c *crio.Container, mode kata.Mode) {
	t.Helper()
	ctx := timeout(t)
	spec := must[crio.Spec](t)(c.Spec(ctx))
	if got := spec.Annotations[kata.AnnotationMode]; got != string(mode) {
		t.Errorf("container has mode %q, want %s", got, mode)
	}
	manifest, err := volume.ReadManifest(spec.Root.Path)
	if err != nil {
		t.Fatal(err)
	}
	want := modes.Volumes(mode, manifest)
	info, err := pod.GuestInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(info.Containers, func(g agentapi.ContainerInfo) bool { return g.ID == c.ID })
	if i < 0 {
		t.Fatalf("the guest does not know container %s: %+v", c.ID, info.Containers)
	}
	guest := info.Containers[i]
	if len(want) == 0 || len(guest.Lowers) != len(want) || len(guest.Verity) != len(want) {
		t.Fatalf("%s: the guest has %q, verified %q; want %d volumes", mode, guest.Lowers, guest.Verity, len(want))
	}
	for k := range want { // lowest first, the guest's lowers topmost first
		lower, device := guest.Lowers[len(want)-1-k], guest.Verity[len(want)-1-k]
		if mode.Verity() {
			checkLower(t, info, lower, device, want[k].Verity)
		} else if device != "" || !slices.ContainsFunc(info.Mounts, func(m string) bool {
			return strings.Contains(m, " "+lower+" erofs ro,") && !strings.HasPrefix(m, "/dev/mapper/")
		}) {
			t.Errorf("%s: the guest's %s is on %q, mounts %q", mode, lower, device, info.Mounts)
		}
	}
}
