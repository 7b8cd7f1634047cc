package crio_test

import (
	"os"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestHook looks at what the pre-installed NRI plugin does to containers of a pod whose author tries to attach a file
// of the host.
func TestHook(t *testing.T) {
	server := start(t)
	if *storageDriver != "" {
		t.Skip("the containers' rootfs are not on the erofs driver")
	}
	ctx := timeout(t)
	ref := push(t, images.Small)
	must[string](t)(server.PullImage(ctx, ref))
	stolen, err := (&kata.VirtualVolume{
		VolumeType: kata.VolumeLayerRawBlock, Source: "/etc/shadow", FSType: kata.FSTypeErofs,
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Annotations: map[string]string{
		kata.VolumeKey(0): stolen, kata.VolumeKey(77): stolen, "io.katacontainers.volume": stolen,
		kata.ExtraOptionKey(5): "x", kata.AnnotationMode: "image-verity", kata.AnnotationRootHash: "0",
		kata.AnnotationRequest: string(kata.ModeLayerVerity), "io.katacontainers.config.agent.foo": "bar",
		"io.kubernetes.cri-o.MountPoint": "/etc",
	}}))
	c := must[*crio.Container](t)(pod.CreateContainer(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}}))
	spec := must[crio.Spec](t)(c.Spec(ctx))
	checkAnnotations(t, spec)

	refused := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{
		Annotations: map[string]string{kata.AnnotationRequest: string(kata.ModeImage)},
	}))
	_, err = refused.CreateContainer(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}})
	if err == nil || !strings.Contains(err.Error(), "the pod requests mode image, but the container has mode layer-verity") {
		t.Errorf("a request that cannot be met: %v", err)
	}
	for _, p := range []*crio.Pod{pod, refused} {
		if err := p.Remove(ctx); err != nil {
			t.Error(err)
		}
	}
}

// checkAnnotations compares a container's annotations with the manifest of its rootfs.
func checkAnnotations(t *testing.T, spec crio.Spec) {
	t.Helper()
	m, err := volume.ReadManifest(spec.Root.Path)
	if err != nil {
		t.Fatal(err)
	}
	var hashes []string
	for i, v := range m.Volumes {
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
	if ours != 2*len(m.Volumes)+2 || spec.Annotations[kata.AnnotationMode] != string(kata.ModeLayerVerity) ||
		spec.Annotations[kata.AnnotationRootHash] != strings.Join(hashes, ",") ||
		spec.Annotations["io.katacontainers.config.agent.foo"] != "bar" {
		t.Errorf("%d volumes, annotations %v", len(m.Volumes), spec.Annotations)
	}
}
