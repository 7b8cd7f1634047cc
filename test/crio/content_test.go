package crio_test

import (
	"path"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestContent compares what a container of the Debian image has with what GNU tar makes of the image's layers.
func TestContent(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	ref := push(t, images.Debian)
	must[string](t)(server.PullImage(ctx, ref))
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	c := must[*crio.Container](t)(pod.CreateContainer(ctx, crio.ContainerOptions{
		Image: ref, Command: []string{"true"},
	}))
	spec := must[crio.Spec](t)(c.Spec(ctx))

	cache := must[string](t)(env.Cache())
	image, err := images.Debian.Build(ctx, cache)
	if err != nil {
		t.Fatal(err)
	}
	want := t.TempDir()
	if err := images.Extract(ctx, image, want); err != nil {
		t.Fatal(err)
	}
	// What CRI-O and runc make in every container's root, before its program runs.
	ignored := map[string]bool{
		"etc/hostname": true, "etc/hosts": true, "etc/resolv.conf": true, "etc/mtab": true,
		"run/.containerenv": true, "run/secrets": true, "run/lock": true,
		".": true, "etc": true, "run": true, // their times
	}
	found := 0
	err = images.Compare(want, spec.Root.Path, func(name string) bool {
		found++
		return ignored[name] || path.Dir(name) == "run/secrets"
	})
	if err != nil {
		t.Error(err)
	}
	if found < 5000 {
		t.Errorf("only %d files were compared", found)
	}
}
