package crio_test

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// releases are trees in which other releases were built ("make build crio"), for TestUpgrades.
var releases = flag.String("releases", "", "trees of earlier releases, the first one first, separated by commas")

// TestUpgrades runs CRI-Os of one release after the other over one store, the last of them this one's, and takes the
// last upgrade back and makes it again. A container runs all the time; each CRI-O finds the images and containers of
// those before it, starts containers of them, and pulls an image.
func TestUpgrades(t *testing.T) {
	if *releases == "" {
		t.Skip("is for other releases: go test ./test/crio -run TestUpgrades -releases TREE,TREE")
	}
	trees := append(strings.Split(*releases, ","), "")
	trees = append(trees, trees[len(trees)-2], "")
	refs := []string{push(t, images.Small), push(t, images.Debian)}
	server := start(t, func(o *crio.Options) { o.Release = trees[0] })
	ctx := timeout(t)
	var sleeper *crio.Container
	for i, tree := range trees {
		if i > 0 {
			server.Terminate()
			if err := server.UseRelease(tree); err != nil {
				t.Fatal(err)
			}
			if err := server.Run(ctx); err != nil {
				t.Fatalf("release %q: %v", tree, err)
			}
		}
		there := must[[]string](t)(server.Images(ctx))
		for j, ref := range refs {
			if want := j == 0 && i > 0 || j == 1 && i > 1; slices.Contains(there, ref) != want {
				t.Errorf("run %d, release %q: image %d is there: %v", i, tree, j, !want)
			}
			if j <= i {
				must[string](t)(server.PullImage(ctx, ref))
			}
		}
		pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
		if sleeper == nil {
			sleeper = startSleeper(t, pod, refs[0])
		}
		for _, ref := range refs[:min(i+1, 2)] {
			c, r, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"ls", "/etc"}})
			if err != nil || r.ExitCode != 0 {
				t.Fatalf("run %d, release %q: %+v, %v", i, tree, r, err)
			}
			m := manifestOf(t, c)
			t.Logf("run %d, release %q: %d volumes, image %v, %q", i, tree, len(m.Volumes), m.Image != nil, m.NoImage)
		}
		if r := must[crio.Result](t)(sleeper.Exec(ctx, "cat", "/etc/motd")); r.ExitCode != 0 || len(r.Stdout) < 20 {
			t.Errorf("run %d, release %q: exec in the container of the first: %+v", i, tree, r)
		}
	}
	if err := server.RemoveAllPods(ctx); err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		if err := server.RemoveImage(ctx, ref); err != nil {
			t.Error(err)
		}
	}
	checkStore(t, server)
}
