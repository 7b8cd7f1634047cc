package crio_test

import (
	"path"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// TestContent compares what a container of the Debian image has with what GNU tar makes of the image's layers.
func TestContent(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Debian)
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
	wanted := withoutDirectoryLinks(must[map[string]tree.Entry](t)(tree.Read(want)))
	got := withoutDirectoryLinks(must[map[string]tree.Entry](t)(tree.Read(spec.Root.Path)))
	for _, line := range tree.Diff(wanted, got, func(name string) bool {
		return ignored[name] || path.Dir(name) == "run/secrets"
	}) {
		t.Error(line)
	}
	if len(got) < 5000 {
		t.Errorf("only %d files were compared", len(got))
	}
}

// withoutDirectoryLinks leaves out the link counts of directories, which an overlay does not have.
func withoutDirectoryLinks(entries map[string]tree.Entry) map[string]tree.Entry {
	for name, e := range entries {
		if e.Mode&unix.S_IFMT == unix.S_IFDIR {
			e.Links = 0
			entries[name] = e
		}
	}
	return entries
}
