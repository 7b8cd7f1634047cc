package crio_test

import (
	"os"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// stolen returns what a pod's author brings along to attach a file of the host.
func stolen(t *testing.T) map[string]string {
	t.Helper()
	volume, err := (&kata.VirtualVolume{
		VolumeType: kata.VolumeLayerRawBlock, Source: "/etc/shadow", FSType: kata.FSTypeErofs,
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		kata.VolumeKey(0): volume, kata.VolumeKey(77): volume, "io.katacontainers.volume": volume,
		kata.ExtraOptionKey(5): "x", kata.AnnotationMode: "image", kata.AnnotationRootHash: "0",
		"io.katacontainers.config.agent.foo": "bar", "io.kubernetes.cri-o.MountPoint": "/etc",
	}
}

// TestHook looks at what the pre-installed NRI plugin does to containers that are not for VMs: it takes away what only
// it may set, and refuses what they cannot have.
func TestHook(t *testing.T) {
	server := start(t)
	if *storageDriver != "" {
		t.Skip("the containers' rootfs are not on the erofs driver")
	}
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Annotations: stolen(t)}))
	c := must[*crio.Container](t)(pod.CreateContainer(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}}))
	for key, value := range must[crio.Spec](t)(c.Spec(ctx)).Annotations {
		if kata.IsReserved(key) || key == "io.kubernetes.cri-o.MountPoint" && value == "/etc" {
			t.Errorf("the pod's own annotation %s=%s is left", key, value)
		}
	}
	checkRefused(t, server, crio.PodOptions{Annotations: map[string]string{kata.AnnotationRequest: "layer-verity"}}, ref,
		`the pod requests mode layer-verity (annotation io.katacontainers.erofs.request), but its default runtime handler `+
			`gives no container that: use a RuntimeClass with a handler of crio-erofs`)
}

// checkRefused makes sure that a container of such a pod is not created, and that CRI-O says why.
func checkRefused(t *testing.T, server *crio.Server, opts crio.PodOptions, ref, want string) {
	t.Helper()
	ctx := timeout(t)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, opts))
	_, err := pod.CreateContainer(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("create: %v; want an error with %q", err, want)
	}
	if err := pod.Remove(ctx); err != nil {
		t.Error(err)
	}
}

// checkAnnotations compares a container's annotations with the manifest of its rootfs.
func checkAnnotations(t *testing.T, spec crio.Spec) {
	t.Helper()
	m, err := volume.ReadManifest(spec.Root.Path)
	if err != nil {
		t.Fatal(err)
	}
	mode := kata.Mode(spec.Annotations[kata.AnnotationMode])
	volumes := modes.Volumes(mode, m)
	var hashes []string
	for i, v := range volumes {
		hashes = append(hashes, v.Verity.RootHash)
		got, err := kata.DecodeVirtualVolume(spec.Annotations[kata.VolumeKey(i)])
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(got.Source); err != nil || fi.Size() != v.Size || got.Source != v.Path ||
			got.DMVerity.Hash != v.Verity.RootHash {
			t.Errorf("volume %d: %+v, %v", i, got, err)
		}
		if _, err := kata.DecodeExtraOption(spec.Annotations[kata.ExtraOptionKey(i)]); err != nil {
			t.Error(err)
		}
	}
	ours := 0
	for key := range spec.Annotations {
		if kata.IsReserved(key) {
			ours++
		}
	}
	if ours != 2*len(volumes)+2 || mode != kata.ModeImageVerity && mode != kata.ModeLayerVerity ||
		spec.Annotations[kata.AnnotationRootHash] != strings.Join(hashes, ",") ||
		spec.Annotations["io.katacontainers.config.agent.foo"] != "bar" {
		t.Errorf("%d volumes, annotations %v", len(volumes), spec.Annotations)
	}
}
