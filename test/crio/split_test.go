package crio_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestSplitStore has CRI-O keep images in a store of their own ("imagestore"), is killed in the middle of a pull there, and
// goes on.
func TestSplitStore(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("looks into the store of the erofs driver")
	}
	server := start(t, func(o *crio.Options) { o.ImageStore = true })
	ctx := timeout(t)
	small, large := push(t, images.Small), pushLarge(t)
	must[string](t)(server.PullImage(ctx, small))
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	c := startSleeper(t, pod, small)
	if r := must[crio.Result](t)(c.Exec(ctx, "sh", "-c", "echo kept > /note")); r.ExitCode != 0 {
		t.Fatalf("exec: %+v", r)
	}
	m := manifestOf(t, c)
	for _, v := range m.Volumes {
		if !strings.HasPrefix(v.Path, server.ImageRoot()+"/") {
			t.Errorf("volume %s is not in %s", v.Path, server.ImageRoot())
		}
	}
	if fs := must[crio.Usage](t)(server.ImageFS(ctx)); !strings.HasPrefix(fs.Path, server.ImageRoot()) {
		t.Errorf("imagefsinfo: %+v", fs)
	}
	pull := pullHalf(ctx, t, server, large)
	server.Kill()
	if err := <-pull; err == nil {
		t.Fatal("the pull was over before CRI-O was killed: nothing was tested")
	}
	if err := server.Run(ctx); err != nil {
		t.Fatal(err)
	}
	checkRepaired(t, server)
	if there := must[[]string](t)(server.Images(ctx)); !slices.Contains(there, small) || slices.Contains(there, large) {
		t.Errorf("after the repair there are the images %v", there)
	}
	if r := must[crio.Result](t)(c.Exec(ctx, "cat", "/note", "/etc/motd")); r.ExitCode != 0 || len(r.Stdout) < 20 {
		t.Errorf("exec after the repair: %+v", r)
	}
	must[string](t)(server.PullImage(ctx, large))
	if _, r, err := pod.Run(ctx, crio.ContainerOptions{Image: large, Command: []string{"ls", "/etc"}}); err != nil || r.ExitCode != 0 {
		t.Errorf("run: %+v, %v", r, err)
	}
	if err := server.RemoveAllPods(ctx); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{small, large} {
		if err := server.RemoveImage(ctx, ref); err != nil {
			t.Error(err)
		}
	}
	checkStore(t, server)
	for _, root := range []string{server.GraphRoot(), server.ImageRoot()} {
		if left := must[[]string](t)(filepath.Glob(filepath.Join(root, "erofs/volumes/*"))); len(left) > 1 { // the pause image's
			t.Errorf("volumes are left: %v", left)
		}
	}
}
