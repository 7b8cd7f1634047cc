package shim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

const (
	// guestPullType is the type of the mount with which CRI-O (runtime_pull_image, cri-o 1.34
	// internal/oci/runtime_vm.go) makes the guest pull the image; guestPullOption is the option that says so.
	guestPullType   = "fuse.nydus-overlayfs"
	guestPullOption = "io.katacontainers.volume="
)

// decider answers what the rootfs of a container is.
type decider struct {
	// emptyFile is a regular file of no length; see kata.RuntimeRSRootfs.
	emptyFile string

	// runtimeFits returns an error if the real shim is known not to enforce dm-verity on Rootfs mounts.
	runtimeFits func() error
}

// rootfs decides about one create. It returns the rootfs to send, or nil if the request is to go through as it is. An
// error means that the container must not be created: nothing short of verified volumes is ever passed on.
//
// Paths come from the driver's manifest, which only root can write, never from annotations, which a pod's author can.
func (d *decider) rootfs(c createRequest) ([]kata.Mount, error) {
	if len(c.rootfs) > 0 {
		if err := checkGuestPull(c.rootfs); err != nil {
			return nil, fmt.Errorf("request brings a rootfs that is not a guest pull: %w", err)
		}
		return nil, nil
	}
	config, err := readBundleConfig(c.bundle)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(config.Root.Path)
	if err != nil {
		return nil, err
	}
	if err := d.runtimeFits(); err != nil {
		return nil, err
	}
	for i := range m.Volumes {
		if err := checkVolume(&m.Volumes[i]); err != nil {
			return nil, err
		}
	}
	// NRI cannot adjust a sandbox's own container: there the manifest has to do.
	if !config.isSandbox() {
		if err := checkAnnotations(config.Annotations, m.Volumes); err != nil {
			return nil, err
		}
	}
	return kata.RuntimeRSRootfs(m.Volumes, d.emptyFile)
}

func readManifest(rootPath string) (*volume.Manifest, error) {
	m, err := volume.ReadManifest(rootPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("rootfs %s is not from the erofs graph driver (no manifest %s): set storage_driver = "+
			"\"erofs\" in CRI-O's configuration, or use another runtime handler", rootPath, volume.ManifestPath(rootPath))
	}
	if err != nil {
		return nil, err
	}
	if m.Refusal != "" {
		return nil, fmt.Errorf("rootfs %s cannot be given to a VM as volumes: %s", rootPath, m.Refusal)
	}
	for i := range m.Volumes {
		if m.Volumes[i].Verity == nil {
			return nil, fmt.Errorf("volume %s has no dm-verity tree: remove the image and pull it again with verity "+
				"switched on", m.Volumes[i].Path)
		}
	}
	return m, nil
}

// checkGuestPull makes sure that a rootfs is the one mount with which CRI-O asks for a pull by the guest.
func checkGuestPull(rootfs []kata.Mount) error {
	if len(rootfs) != 1 || rootfs[0].Type != guestPullType {
		types := make([]string, len(rootfs))
		for i := range rootfs {
			types[i] = rootfs[i].Type
		}
		return fmt.Errorf("%d mounts of type %q; want one of type %q", len(rootfs), types, guestPullType)
	}
	var found []string
	for _, o := range rootfs[0].Options {
		if v, ok := strings.CutPrefix(o, guestPullOption); ok {
			found = append(found, v)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("%d options %s; want one", len(found), guestPullOption)
	}
	b, err := base64.StdEncoding.DecodeString(found[0])
	if err != nil {
		return fmt.Errorf("option %s: %w", guestPullOption, err)
	}
	// Only the type is looked at: the metadata are the container's annotations, and Kata's own matter.
	var v struct {
		Type kata.VolumeType `json:"volume_type"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("option %s: %w", guestPullOption, err)
	}
	if v.Type != kata.VolumeImageGuestPull {
		return fmt.Errorf("virtual volume of type %q; want %q", v.Type, kata.VolumeImageGuestPull)
	}
	return nil
}
