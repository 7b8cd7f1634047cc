package crio_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestKillDuringPull kills CRI-O while it converts layers. The next start has containers/storage check and repair itself
// (internal_repair), which removes nothing but what was half-made, and a pull then succeeds.
func TestKillDuringPull(t *testing.T) {
	server := start(t)
	if *storageDriver != "" {
		t.Skip("looks into the store of the erofs driver")
	}
	ctx := timeout(t)
	small, ref := push(t, images.Small), pushLarge(t)
	must[string](t)(server.PullImage(ctx, small))
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	c := startSleeper(t, pod, small)
	for range 2 {
		pull := pullHalf(ctx, t, server, ref)
		server.Kill()
		if err := <-pull; err == nil {
			t.Fatal("the pull was over before CRI-O was killed: nothing was tested")
		}
		if err := server.Run(ctx); err != nil {
			t.Fatal(err)
		}
		checkStore(t, server)
		checkRepaired(t, server)
		if there := must[[]string](t)(server.Images(ctx)); !slices.Contains(there, small) || slices.Contains(there, ref) {
			t.Errorf("after the repair there are the images %v", there)
		}
		if r := must[crio.Result](t)(c.Exec(ctx, "cat", "/etc/motd")); r.ExitCode != 0 || len(r.Stdout) < 20 {
			t.Errorf("exec after the repair: %+v", r)
		}
	}
	must[string](t)(server.PullImage(ctx, ref))
	checkStore(t, server)
	if err := server.RemoveImage(ctx, ref); err != nil {
		t.Fatal(err)
	}
	checkStore(t, server)
}

// checkRepaired looks into CRI-O's log for what became of its storage.
func checkRepaired(t *testing.T, server *crio.Server) {
	t.Helper()
	log := string(must[[]byte](t)(os.ReadFile(server.LogFile())))
	if !strings.Contains(log, "because of unclean shutdown") || strings.Contains(log, "Wiping storage directory") {
		t.Errorf("CRI-O did not check its storage, or threw it away:\n%s", tail(log, 20))
	}
}

// pullHalf starts a pull and returns when the driver is in the middle of writing a volume of some size. The channel
// tells how the pull ended.
func pullHalf(ctx context.Context, t *testing.T, server *crio.Server, ref string) <-chan error {
	t.Helper()
	pull := make(chan error, 1)
	go func() {
		_, err := server.PullImage(ctx, ref)
		pull <- err
	}()
	for {
		files, err := filepath.Glob(filepath.Join(server.VolumesRoot(), "erofs/tmp/*/volume", volume.FileName))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if fi, err := os.Stat(f); err == nil && fi.Size() > 1<<20 {
				return pull
			}
		}
		select {
		case err := <-pull:
			t.Fatalf("the pull ended (%v) before a volume was seen in erofs/tmp", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// checkStore looks for what no layer refers to, after CRI-O has finished what it was told to do.
func checkStore(t *testing.T, server *crio.Server) {
	t.Helper()
	if *storageDriver != "" {
		return
	}
	store := filepath.Join(server.VolumesRoot(), "erofs")
	if entries, err := os.ReadDir(filepath.Join(store, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("half-made things in tmp: %v, %v", entries, err)
	}
	volumes, err := filepath.Glob(filepath.Join(store, "volumes/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes {
		fi, err := os.Stat(filepath.Join(v, volume.FileName))
		if err != nil {
			t.Errorf("volume without file: %v", err)
			continue
		}
		if fi.Sys().(*syscall.Stat_t).Nlink < 2 {
			t.Errorf("no layer refers to volume %s", v)
		}
	}
	layers, err := filepath.Glob(filepath.Join(store, "layers/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if _, err := os.Stat(filepath.Join(l, "layer.json")); err != nil {
			t.Errorf("half-made layer: %v", err)
		}
	}
}

// TestConcurrentPulls pulls one image many times at once, and another one that shares nothing with it.
func TestConcurrentPulls(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	refs := []string{push(t, images.Small), pushLarge(t)}
	ids, errs := make([]string, 6), make([]error, 6)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() { ids[i], errs[i] = server.PullImage(ctx, refs[i%2]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i := range ids {
		if ids[i] != ids[i%2] {
			t.Errorf("pull %d of %s gave image %s, another %s", i, refs[i%2], ids[i], ids[i%2])
		}
	}
	checkStore(t, server)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	for _, ref := range refs {
		_, result, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"ls", "/"}})
		if err != nil || result.ExitCode != 0 {
			t.Errorf("run %s: %+v, %v", ref, result, err)
		}
	}
}

// TestCancelledPull gives up a pull as kubelet does when its deadline is over. Another pull then succeeds.
func TestCancelledPull(t *testing.T) {
	server := start(t)
	if *storageDriver != "" {
		t.Skip("looks into the store of the erofs driver")
	}
	ctx := timeout(t)
	ref := pushLarge(t)
	cancelled, cancel := context.WithCancel(ctx)
	pull := pullHalf(cancelled, t, server, ref)
	cancel()
	if err := <-pull; err == nil {
		t.Fatal("the pull was over before it was cancelled: nothing was tested")
	}
	// CRI-O lets a pull of the same image join one that is still on its way, also on the way to its cancellation.
	_, err := server.PullImage(ctx, ref)
	for status.Code(err) == codes.Canceled && ctx.Err() == nil {
		_, err = server.PullImage(ctx, ref)
	}
	if err != nil {
		t.Fatal(err)
	}
	checkStore(t, server)
}
