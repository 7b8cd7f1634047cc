package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

// containerInspection is what inspect prints of a container as JSON.
type containerInspection struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Pod       string `json:"pod,omitempty"` // namespace/name
	Sandbox   bool   `json:"sandbox"`
	ImageID   string `json:"image_id"`
	ImageName string `json:"image_name,omitempty"`
	Handler   string `json:"handler,omitempty"` // none: CRI-O's default
	Mode      string `json:"mode,omitempty"`    // none: the hook has given it none
	Mounted   bool   `json:"mounted"`

	// Annotations are those of its OCI configuration that tell Kata and the shim of volumes.
	Annotations map[string]string `json:"annotations,omitempty"`

	ManifestPath string           `json:"manifest_path"`
	Manifest     *volume.Manifest `json:"manifest"`
	UpperDir     string           `json:"upper_dir"`               // where it writes to if the host mounts its image
	RWLayerUsed  int64            `json:"rw_layer_used,omitempty"` // bytes on the disk
	Mounts       []mountEntry     `json:"mounts"`
}

// mountEntry is a mount of the container on the host.
type mountEntry struct {
	Path   string `json:"path"`
	Type   string `json:"type"`
	Source string `json:"source"`
	Volume string `json:"volume,omitempty"`
}

func inspectContainer(s *nodestore.Store, c *nodestore.Container) (*containerInspection, error) {
	paths := s.LayerPaths(c.LayerID)
	in := &containerInspection{ID: c.ID, Name: c.Title(), Sandbox: c.Sandbox, ImageID: c.ImageID, Handler: c.Handler,
		Mode: c.Mode, ManifestPath: paths.Manifest, UpperDir: paths.Diff, Annotations: ownAnnotations(c.Annotations), Mounts: []mountEntry{}}
	if c.PodName != "" {
		in.Pod = c.Namespace + "/" + c.PodName
	}
	for _, img := range s.Images {
		if img.ID == c.ImageID {
			in.ImageName = nodestore.Label(img)
		}
	}
	var err error
	if in.Manifest, err = readManifest(s, c, paths); err != nil {
		return nil, fmt.Errorf("container %s: %w", c.ID, err)
	}
	if rw := in.Manifest.RWLayer; rw != nil {
		if fi, err := os.Stat(rw.Path); err == nil {
			in.RWLayerUsed = fi.Sys().(*syscall.Stat_t).Blocks * 512
		}
	}
	return in, in.findMounts(s, paths)
}

// readManifest reads the manifest of a container that is mounted. Of one that is not it says what it would be.
func readManifest(s *nodestore.Store, c *nodestore.Container, paths driver.LayerPaths) (*volume.Manifest, error) {
	m, err := volume.ReadManifest(paths.Merged)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	l, ok := s.Layers[c.LayerID]
	if !ok {
		return nil, fmt.Errorf("its layer %s is not in this store: %w", c.LayerID, fs.ErrNotExist)
	}
	if m, err = s.DescribeImage(l.Parent); err != nil {
		return nil, err
	}
	m.ID, m.MountPoint = c.LayerID, paths.Merged
	return m, nil
}

// ownAnnotations returns those annotations that are of this project, or Kata's of volumes.
func ownAnnotations(all map[string]string) map[string]string {
	own := map[string]string{}
	for key, value := range all {
		for _, prefix := range []string{kata.AnnotationErofsPrefix, kata.AnnotationVolumePrefix, kata.AnnotationExtraOptionPrefix} {
			if strings.HasPrefix(key, prefix) {
				own[key] = value
			}
		}
	}
	return own
}

// findMounts looks for the container's mounts among those that this process sees.
func (in *containerInspection) findMounts(s *nodestore.Store, paths driver.LayerPaths) error {
	volumes := map[string]string{} // by mount point
	all := in.Manifest.Volumes
	if in.Manifest.Image != nil {
		all = append(all[:len(all):len(all)], *in.Manifest.Image)
	}
	for i := range all {
		name := filepath.Base(filepath.Dir(all[i].Path))
		volumes[s.HostMount(name)] = name
	}
	mounts, err := mountinfo.GetMounts(func(info *mountinfo.Info) (skip, stop bool) {
		return info.Mountpoint != paths.Merged && volumes[info.Mountpoint] == "", false
	})
	if err != nil {
		return err
	}
	for _, m := range mounts {
		in.Mounted = in.Mounted || m.Mountpoint == paths.Merged
		in.Mounts = append(in.Mounts, mountEntry{Path: m.Mountpoint, Type: m.FSType, Source: m.Source, Volume: volumes[m.Mountpoint]})
	}
	return nil
}

func (in *containerInspection) blocks() []output.Block {
	kind := "container"
	if in.Sandbox {
		kind = "sandbox"
	}
	fields := output.Pairs(kind, in.ID, "name", in.Name)
	fields.AddIf("pod", in.Pod)
	fields.AddIf("image", strings.TrimSpace(in.ImageName+" "+in.ImageID))
	fields.Add("handler", orElse(in.Handler, "CRI-O's default"))
	fields.Add("mode", orElse(in.Mode, "none: the hook has given it none, and the host mounts its image"))
	fields.Add("mounted", in.Mounted)
	fields.Add("manifest", in.ManifestPath)
	addManifest(&fields, in.Manifest)
	writes := in.UpperDir
	if in.Mode != "" {
		writes = "the guest's memory"
	}
	if rw := in.Manifest.RWLayer; rw != nil && in.Mode != "" {
		writes = fmt.Sprintf("%s, %s of %s, %s used", rw.Path, rw.FSType, output.Size(rw.Size), output.Size(in.RWLayerUsed))
	}
	fields.Add("writes_to", writes)
	blocks := []output.Block{fields, volumesTable(in.Manifest)}
	if len(in.Mounts) > 0 {
		t := output.NewTable(output.Column{Name: "MOUNT"}, output.Column{Name: "TYPE"}, output.Column{Name: "SOURCE"})
		for _, m := range in.Mounts {
			t.Add(m.Path, m.Type, m.Source)
		}
		blocks = append(blocks, t)
	}
	return blocks
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
