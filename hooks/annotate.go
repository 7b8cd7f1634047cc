package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// AnnotationMountPoint is where CRI-O says, on every container, on which directory of the host the rootfs is mounted.
// CRI-O writes it over whatever a pod's annotations hold there (SpecAddAnnotations in
// internal/factory/container/container.go).
const AnnotationMountPoint = "io.kubernetes.cri-o.MountPoint"

// Container is what is known of a container that is about to be created.
type Container struct {
	// Handler is the pod's runtime handler; empty if it has none, which means CRI-O's default_runtime.
	Handler string

	// MountPoint is the directory on which the rootfs is mounted; empty if none is known.
	MountPoint string

	Annotations map[string]string
}

// Adjustment says how a container's annotations have to change. No key is in both Set and Remove.
type Adjustment struct {
	// Set has the annotations to add or overwrite.
	Set map[string]string

	// Remove has the keys of ours that the container brought along and that Set does not overwrite, sorted.
	Remove []string

	// Mode is what was chosen; empty if the container's runtime handler is not one of this project.
	Mode kata.Mode

	// Handler is the configuration of the container's runtime handler, Manifest describes its rootfs. Manifest is nil
	// if the rootfs is not one of this project, and if Mode is empty.
	Handler  modes.Handler
	Manifest *volume.Manifest
}

// Annotate decides about a container. An error means that it must not be created: it cannot have any of the modes that
// its runtime handler is configured for, or not the one that its pod requests (kata.AnnotationRequest), or its rootfs
// is damaged.
//
// A container of a handler that is not one of this project, such as runc, is left alone but for keys of ours that its
// pod brought along.
func Annotate(config *modes.Config, c Container) (*Adjustment, error) {
	handler, ours := config.Handler(c.Handler)
	a := &Adjustment{Set: map[string]string{}, Handler: handler}
	request := c.Annotations[kata.AnnotationRequest]
	if !ours {
		if err := checkForeignRequest(handler.Name, request); err != nil {
			return nil, Refuse(ReasonRequest, err)
		}
	} else if err := a.choose(c, request); err != nil {
		return nil, err
	}
	for key := range c.Annotations {
		if _, set := a.Set[key]; !set && kata.IsReserved(key) {
			a.Remove = append(a.Remove, key)
		}
	}
	slices.Sort(a.Remove)
	return a, nil
}

// choose fills in mode, manifest and annotations.
func (a *Adjustment) choose(c Container, request string) (err error) {
	if a.Manifest, err = readManifest(c.MountPoint); err != nil {
		return Refuse(ReasonManifest, err)
	}
	offer := modes.NewOffer(a.Manifest, c.Annotations)
	if a.Mode, err = a.Handler.Choose(request, offer); err != nil {
		if request != "" {
			return Refuse(ReasonRequest, err)
		}
		return Refuse(ReasonMode, err)
	}
	if a.Set, err = modes.Annotations(a.Mode, offer); err != nil {
		return Refuse(ReasonInternal, fmt.Errorf("annotations for mode %s: %w", a.Mode, err))
	}
	return nil
}

// checkForeignRequest fails if a pod insists on something that only handlers of this project give. A shared directory
// is what all others have.
func checkForeignRequest(handler, request string) error {
	if request == "" || request == string(kata.ModeSharedFS) {
		return nil
	}
	name := fmt.Sprintf("runtime handler %q", handler)
	if handler == "" {
		name = "default runtime handler"
	}
	return fmt.Errorf("the pod requests mode %s (annotation %s), but its %s gives no container that: use a "+
		"RuntimeClass with a handler of crio-erofs, name the handler in its configuration, or remove the annotation",
		request, kata.AnnotationRequest, name)
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
