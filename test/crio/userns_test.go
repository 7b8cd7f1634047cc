package crio_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestUserNamespace runs a pod with a user namespace (hostUsers: false) beside one without: its root owns the image's
// files and what it writes, and no layer is copied.
func TestUserNamespace(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	volumes := countVolumes(t, server)

	ids := &cri.IDMapping{HostId: 200000, ContainerId: 0, Length: 65536}
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{IDs: ids}))
	script := "cat /proc/self/uid_map; stat -c %u:%g /etc/motd; echo changed > /etc/motd; chown 5:6 /etc/motd; " +
		"stat -c %u:%g /etc/motd; cat /etc/motd"
	c, result, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"sh", "-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(result.Stdout); result.ExitCode != 0 ||
		strings.Join(fields, " ") != "0 200000 65536 0:0 5:6 changed" {
		t.Errorf("in the user namespace: %+v", result)
	}
	if m := manifestOf(t, c); m.Refusal != "" || len(m.Volumes) == 0 {
		t.Errorf("manifest: %d volumes, refusal %q", len(m.Volumes), m.Refusal)
	}
	_, result, err = must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{})).Run(ctx, crio.ContainerOptions{
		Image: ref, Command: []string{"stat", "-c", "%u:%g", "/etc/motd"},
	})
	if err != nil || result.Stdout != "0:0\n" {
		t.Errorf("without a user namespace: %+v, %v", result, err)
	}
	if now := countVolumes(t, server); now < volumes || now > volumes+1 { // an image volume, perhaps
		t.Errorf("%d volumes, %d before", now, volumes)
	}
}

// countVolumes counts the store's volumes.
func countVolumes(t *testing.T, server *crio.Server) int {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(server.GraphRoot(), "erofs/volumes"))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// manifestOf reads a container's manifest.
func manifestOf(t *testing.T, c *crio.Container) *volume.Manifest {
	t.Helper()
	return must[*volume.Manifest](t)(volume.ReadManifest(must[crio.Spec](t)(c.Spec(t.Context())).Root.Path))
}
