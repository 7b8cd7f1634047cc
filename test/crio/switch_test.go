package crio_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestSwitchDrivers goes from overlay to erofs and back, twice, on one node: each driver's images stay while the other
// is at work, and containers run of them when it comes back.
func TestSwitchDrivers(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("is about both drivers")
	}
	server := start(t, func(o *crio.Options) { o.StorageDriver = "overlay" })
	ctx := timeout(t)
	ref := push(t, images.Small)
	for i, driver := range []string{"overlay", "", "overlay", ""} {
		if i > 0 {
			server.Terminate()
			if err := server.UseDriver(driver); err != nil {
				t.Fatal(err)
			}
			if err := server.Run(ctx); err != nil {
				t.Fatal(err)
			}
		}
		there := slices.Contains(must[[]string](t)(server.Images(ctx)), ref)
		if there != (i > 1) {
			t.Fatalf("run %d, driver %q: the image is there: %v", i, driver, there)
		}
		if !there {
			must[string](t)(server.PullImage(ctx, ref))
		}
		pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
		_, result, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"cat", "/etc/motd"}})
		if err != nil || result.ExitCode != 0 || !strings.HasPrefix(result.Stdout, "This file") {
			t.Fatalf("run %d, driver %q: %+v, %v", i, driver, result, err)
		}
		if err := pod.Remove(ctx); err != nil { // the node is drained
			t.Fatal(err)
		}
	}
	checkStore(t, server)
}

// TestStoreVersion starts CRI-O on a store of a newer driver, as after an upgrade that was taken back: it does not start,
// says what to do, and leaves the store as it was.
func TestStoreVersion(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("is about erofs")
	}
	server := start(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	server.Terminate()
	path := filepath.Join(server.GraphRoot(), "erofs/store.json")
	old := must[[]byte](t)(os.ReadFile(path))
	if err := os.WriteFile(path, []byte(`{"version":2}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := server.Run(ctx); err == nil {
		t.Error("CRI-O starts on a store of a newer driver")
	}
	log := must[[]byte](t)(os.ReadFile(server.LogFile()))
	for _, part := range []string{"has version 2 and this driver knows version 1 only", "install the crio-erofs release"} {
		if !bytes.Contains(log, []byte(part)) {
			t.Errorf("CRI-O's log does not say %q", part)
		}
	}
	if err := os.WriteFile(path, old, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := server.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(must[[]string](t)(server.Images(ctx)), ref) {
		t.Error("the image is gone")
	}
	checkStore(t, server)
}

// TestUsage looks at what CRI-O tells the kubelet of disk space.
func TestUsage(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	c := startSleeper(t, pod, ref)
	before := written(ctx, t, c)
	if r := must[crio.Result](t)(c.Exec(ctx, "dd", "if=/dev/urandom", "of=/file", "bs=1M", "count=3")); r.ExitCode != 0 {
		t.Fatalf("dd: %+v", r)
	}
	if after := written(ctx, t, c); after.Bytes < before.Bytes+3<<20 || after.Inodes <= before.Inodes {
		t.Errorf("a container that wrote 3 MiB has %+v, and had %+v", after, before)
	}
	fs := must[crio.Usage](t)(server.ImageFS(ctx))
	if !strings.HasPrefix(fs.Path, server.GraphRoot()) || fs.Inodes == 0 {
		t.Errorf("imagefsinfo: %+v", fs)
	}
	t.Logf("imagefsinfo: %+v", fs)
}

// written asks CRI-O, which may have to collect the numbers first.
func written(ctx context.Context, t *testing.T, c *crio.Container) crio.Usage {
	t.Helper()
	return must[crio.Usage](t)(c.Written(ctx))
}
