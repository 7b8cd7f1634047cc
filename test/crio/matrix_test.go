package crio_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// everyMode is a configuration in which a pod may request everything from a real shim of some dialect.
const everyMode = `[handlers.kata-erofs]
dialect = %q
modes = [%q]
allow = ["image-verity", "layer-verity", "image", "layer", "guest-pull", "shared-fs"]
`

// look is what a container says of itself: the image's file, directory, user, what is mounted for it, and whether it
// can write.
const look = "cat /etc/motd; pwd; id -u; test -s /etc/hostname && echo named; touch /x 2>/dev/null && echo rw || echo ro; exit 5"

// TestKata runs containers of one pod in every mode through a real shim of dialect raw-volume, and through one whose
// sandbox comes out of the guest itself. TestVMModes has the same for runtime-rs's own dialect.
func TestKata(t *testing.T) {
	server := startVM(t, withImageVolumes)
	ref := pull(t, server, images.Small)
	t.Run("raw-volume", func(t *testing.T) {
		set(t, server, "raw-volume", kata.ModeLayerVerity)
		pod := must[*crio.Pod](t)(server.RunPod(timeout(t), crio.PodOptions{Handler: crio.HandlerVM}))
		for i, mode := range []kata.Mode{kata.ModeImageVerity, kata.ModeLayerVerity, kata.ModeImage, kata.ModeLayer} {
			checkMode(t, pod, runIn(t, pod, ref, mode, i%2 == 0), mode)
		}
		checkPulled(t, pod, runIn(t, pod, ref, kata.ModeGuestPull, false))
		checkShared(t, pod, ref)
		if err := pod.Remove(timeout(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("guest-pull", func(t *testing.T) {
		set(t, server, "auto", kata.ModeGuestPull)
		pod := must[*crio.Pod](t)(server.RunPod(timeout(t), crio.PodOptions{Handler: crio.HandlerVM}))
		checkPulled(t, pod, runIn(t, pod, ref, kata.ModeGuestPull, true))
		checkMode(t, pod, runIn(t, pod, ref, kata.ModeImageVerity, false), kata.ModeImageVerity)
		if err := pod.Remove(timeout(t)); err != nil {
			t.Error(err)
		}
	})
}

func set(t *testing.T, server *crio.Server, dialect string, mode kata.Mode) {
	t.Helper()
	if err := server.SetConfig(fmt.Sprintf(everyMode, dialect, mode)); err != nil {
		t.Fatal(err)
	}
}

// runIn runs a container in a mode. CRI lets a container have an annotation of its own, in the place of its pod's.
func runIn(t *testing.T, pod *crio.Pod, ref string, mode kata.Mode, readOnly bool) *crio.Container {
	t.Helper()
	ctx := timeout(t)
	c, result, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"sh", "-c", look},
		Annotations: map[string]string{kata.AnnotationRequest: string(mode)}, ReadOnly: readOnly})
	if err != nil {
		t.Fatalf("mode %s: %v", mode, err)
	}
	want := "This file came out of an EROFS volume.\n/\n0\nnamed\nrw\n"
	if readOnly {
		want = strings.Replace(want, "rw", "ro", 1)
	}
	if result.Stdout != want || result.ExitCode != 5 || result.Stderr != "" {
		t.Errorf("mode %s: %+v, want output %q and exit code 5", mode, result, want)
	}
	if got := must[crio.Spec](t)(c.Spec(ctx)).Annotations[kata.AnnotationMode]; got != string(mode) {
		t.Errorf("mode %s was requested, the container has %q", mode, got)
	}
	return c
}

// checkPulled makes sure that a container's image came to the guest without any volume.
func checkPulled(t *testing.T, pod *crio.Pod, c *crio.Container) {
	t.Helper()
	info, err := pod.GuestInfo(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(info.Containers, func(g agentapi.ContainerInfo) bool { return g.ID == c.ID })
	if i < 0 || len(info.Containers[i].Lowers) != 0 {
		t.Errorf("the guest has container %s in %+v", c.ID, info.Containers)
	}
}

// checkShared: the stand-in shares nothing (shared_fs = "none"), and the container fails instead of getting less.
func checkShared(t *testing.T, pod *crio.Pod, ref string) {
	t.Helper()
	_, _, err := pod.Run(timeout(t), crio.ContainerOptions{Image: ref, Command: []string{"true"},
		Annotations: map[string]string{kata.AnnotationRequest: string(kata.ModeSharedFS)}})
	if err == nil || !strings.Contains(err.Error(), "share fs is unavailable") {
		t.Errorf("shared-fs in a guest that shares nothing: %v", err)
	}
}
