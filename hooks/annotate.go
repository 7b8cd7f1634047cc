package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

// AnnotationMountPoint is where CRI-O says, on every container, on which directory of the host the rootfs is mounted.
// CRI-O writes it over whatever a pod's annotations hold there (SpecAddAnnotations in
// internal/factory/container/container.go).
const AnnotationMountPoint = "io.kubernetes.cri-o.MountPoint"

// Adjustment says how a container's annotations have to change. No key is in both Set and Remove.
type Adjustment struct {
	// Set has the annotations to add or overwrite.
	Set map[string]string

	// Remove has the keys of ours that the container brought along and that Set does not overwrite, sorted.
	Remove []string

	// Manifest describes the container's rootfs. It is nil if the rootfs is not one of this project.
	Manifest *volume.Manifest
}

// Mode returns the mode that the adjustment announces, "" if none.
func (a *Adjustment) Mode() kata.Mode {
	return kata.Mode(a.Set[kata.AnnotationMode])
}

// Annotate decides for a container that has these annotations and is mounted at mountPoint; mountPoint is empty if the
// container has none that is known. An error means that the container must not be created: its rootfs is ours but
// damaged, or its pod requests a mode (kata.AnnotationRequest) that it cannot have.
//
// A manifest with a refusal is not an error, because the container runs well outside a VM: it gets no annotations, and
// the shim refuses it if it comes that way.
func Annotate(annotations map[string]string, mountPoint string) (*Adjustment, error) {
	m, err := readManifest(mountPoint)
	if err != nil {
		return nil, err
	}
	a := &Adjustment{Set: map[string]string{}, Manifest: m}
	if m != nil && m.Refusal == "" {
		if a.Set, err = describe(m); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", volume.ManifestPath(mountPoint), err)
		}
	}
	for key := range annotations {
		if _, set := a.Set[key]; !set && kata.IsReserved(key) {
			a.Remove = append(a.Remove, key)
		}
	}
	slices.Sort(a.Remove)
	if request, ok := annotations[kata.AnnotationRequest]; ok {
		if err := a.checkRequest(request); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", kata.AnnotationRequest, err)
		}
	}
	return a, nil
}

// readManifest returns nil without an error for a rootfs that is not ours.
func readManifest(mountPoint string) (*volume.Manifest, error) {
	if mountPoint == "" {
		return nil, nil
	}
	if !filepath.IsAbs(mountPoint) {
		return nil, fmt.Errorf("mount point %q is not an absolute path", mountPoint)
	}
	m, err := volume.ReadManifest(mountPoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}

// checkRequest fails if the pod insists on a mode and the container gets less: falling back silently could put an
// image that is not verified where a verified one was asked for.
func (a *Adjustment) checkRequest(request string) error {
	want, err := kata.ParseMode(request)
	if err != nil {
		return err
	}
	switch {
	case a.Manifest == nil:
		return fmt.Errorf("the pod requests mode %s, but the container's rootfs is not on the erofs storage driver; "+
			"set driver = \"erofs\" in storage.conf or remove the annotation", want)
	case a.Manifest.Refusal != "":
		return fmt.Errorf("the pod requests mode %s, but the container's rootfs cannot be volumes: %s",
			want, a.Manifest.Refusal)
	case !a.Mode().Satisfies(want):
		return fmt.Errorf("the pod requests mode %s, but the container has mode %s; request that or remove the "+
			"annotation", want, a.Mode())
	}
	return nil
}

// describe makes the annotations for the volumes of a manifest.
func describe(m *volume.Manifest) (map[string]string, error) {
	set := map[string]string{}
	hashes := make([]string, len(m.Volumes))
	verified := 0
	for i := range m.Volumes {
		v := &m.Volumes[i]
		var err error
		if set[kata.VolumeKey(i)], err = kata.NewLayerVolume(v).Encode(); err != nil {
			return nil, fmt.Errorf("volumes[%d]: %w", i, err)
		}
		if set[kata.ExtraOptionKey(i)], err = kata.NewLayerOption(v).Encode(); err != nil {
			return nil, fmt.Errorf("volumes[%d]: %w", i, err)
		}
		hashes[i] = kata.NoRootHash
		if v.Verity != nil {
			hashes[i] = v.Verity.RootHash
			verified++
		}
	}
	set[kata.AnnotationMode] = string(kata.ModeLayer)
	if verified == len(m.Volumes) {
		set[kata.AnnotationMode] = string(kata.ModeLayerVerity)
	}
	if verified > 0 {
		set[kata.AnnotationRootHash] = strings.Join(hashes, ",")
	}
	return set, nil
}
