package crio_test

import (
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/archive"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestCommit makes an image of what a running container has changed, from another process than CRI-O's, as "podman commit"
// does on a node, and pushes it. CRI-O pulls and runs it: of its volumes, it has all but one.
func TestCommit(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("is about erofs")
	}
	server := start(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	c := startSleeper(t, pod, ref)
	change := "echo changed > /etc/motd && rm /etc/debian_version && mkdir /new && echo new > /new/file"
	if r := must[crio.Result](t)(c.Exec(ctx, "sh", "-c", change)); r.ExitCode != 0 {
		t.Fatalf("exec: %+v", r)
	}
	before := countVolumes(t, server)
	committed := pushWith(t, ref, "example/committed", diffOf(t, server, c.ID))
	must[string](t)(server.PullImage(ctx, committed))
	if after := countVolumes(t, server); after != before+1 {
		t.Errorf("%d volumes, and %d before", after, before)
	}
	_, r, err := pod.Run(ctx, crio.ContainerOptions{
		Image: committed, Command: []string{"sh", "-c", "cat /etc/motd /new/file; test ! -e /etc/debian_version && ls /etc/issue.net"},
	})
	if err != nil || r.Stdout != "changed\nnew\n" || r.ExitCode == 0 { // Small hides /etc/issue.net
		t.Errorf("run: %+v, %v", r, err)
	}
	if r := must[crio.Result](t)(c.Exec(ctx, "cat", "/etc/motd")); r.Stdout != "changed\n" {
		t.Errorf("exec in the container that was committed: %+v", r)
	}
	checkStore(t, server)
}

// diffOf returns what a running container has changed.
func diffOf(t *testing.T, server *crio.Server, container string) []byte {
	t.Helper()
	s := must[storage.Store](t)(storage.GetStore(storage.StoreOptions{
		GraphRoot: server.GraphRoot(), RunRoot: filepath.Join(server.Dir(), "runroot"), GraphDriverName: driver.Name,
	}))
	defer s.Free()
	c := must[*storage.Container](t)(s.Container(container))
	none := archive.Uncompressed
	r := must[io.ReadCloser](t)(s.Diff("", c.LayerID, &storage.DiffOptions{Compression: &none}))
	diff, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return diff
}

// pushWith pushes an image with one layer more into another repository.
func pushWith(t *testing.T, ref, repository string, layer []byte) string {
	t.Helper()
	base := must[name.Reference](t)(name.ParseReference(ref, name.Insecure))
	img, err := remote.Image(base)
	if err != nil {
		t.Fatal(err)
	}
	kind := types.OCIUncompressedLayer
	if m, err := img.MediaType(); err == nil && m == types.DockerManifestSchema2 {
		kind = types.DockerUncompressedLayer
	}
	if img, err = mutate.AppendLayers(img, static.NewLayer(layer, kind)); err != nil {
		t.Fatal(err)
	}
	return pushImage(t, repository, img)
}
