package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/types"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
	"github.com/crio-erofs/crio-erofs/test/standin/gptdisk"
)

// Kind says how the EROFS mounts reach the guest.
type Kind string

// Kinds of a plan. Only KindGPT can be verified: with a single mount runtime-rs ignores the verity option.
const (
	KindGPT    Kind = "gpt"    // several EROFS mounts: a partition each
	KindMerged Kind = "merged" // one EROFS mount with device= options: its files one after the other
	KindSingle Kind = "single" // one EROFS mount: the file itself

	KindVolumes Kind = "volumes" // raw block volumes: a disk for each file
	KindPull    Kind = "pull"    // no disk: the guest pulls the image
)

// Plan is what to attach and what to tell the agent. Storages lack only the disk's address.
type Plan struct {
	Kind     Kind
	Files    []string        // in the order they have on the disk
	Upper    string          // a disk of its own for what the container writes; "": in the guest's memory
	Layout   *gptdisk.Layout // of KindGPT
	Storages []agentapi.Storage
}

// New makes a plan for a container. It reads the files' sizes and verity parameters, and changes nothing.
// annotations are the container's.
func New(cid string, mounts []*types.Mount, annotations map[string]string) (*Plan, error) {
	if err := check(mounts); err != nil {
		return nil, err
	}
	if len(mounts) == 1 {
		volumes, err := virtualVolumes(mounts[0])
		if err != nil {
			return nil, err
		}
		if volumes[0].VolumeType == "image_guest_pull" {
			return planPull(cid, annotations)
		}
		return planVolumes(cid, volumes)
	}
	var erofs []*types.Mount
	var mkdirs []string
	for _, m := range mounts {
		if isType(m, typeErofs) {
			erofs = append(erofs, m)
		}
		// The overlay's other options are not looked at. Its type is compared with case here (erofs_rootfs.rs,
		// "Pre-extract mkdir directives").
		if slices.Contains(overlayTypes, m.Type) {
			mkdirs = append(mkdirs, mkdirOptions(m)...)
		}
	}
	mountPoint := filepath.Join(agentapi.PassthroughDir, cid, "rootfs")
	p, err := newPlan(erofs, mountPoint)
	if err != nil {
		return nil, err
	}
	p.Storages[0].Options = append(p.Storages[0].Options, mkdirs...)
	for _, m := range mounts {
		if isType(m, typeExt4) {
			p.addUpper(m, mountPoint)
		}
	}
	return p, nil
}

// addUpper puts a writable disk before the others. Of two the last one counts (erofs_rootfs.rs, rwlayer_storage).
func (p *Plan) addUpper(m *types.Mount, mountPoint string) {
	if p.Upper != "" {
		p.Storages = p.Storages[1:]
	}
	p.Upper = m.Source
	options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "loop" })
	upper := storage(mountPoint, append(options, agentapi.OptOverlayUpper, agentapi.OptMultiLayer))
	upper.FSType = typeExt4
	p.Storages = append([]agentapi.Storage{upper}, p.Storages...)
}

func mkdirOptions(overlay *types.Mount) (options []string) {
	for _, opt := range overlay.Options {
		if dir, ok := strings.CutPrefix(opt, "X-containerd.mkdir.path="); ok {
			options = append(options, agentapi.OptMkdirPath+dir)
		}
	}
	return options
}

// newPlan chooses the kind by the number of EROFS mounts in the list; empty files count.
func newPlan(erofs []*types.Mount, mountPoint string) (*Plan, error) {
	if len(erofs) > 1 {
		return planGPT(erofs, mountPoint)
	}
	return planOne(erofs[0], mountPoint)
}

// planGPT gives every EROFS mount that is not an empty file a partition, in the order of the list: the first is the
// topmost layer.
func planGPT(erofs []*types.Mount, mountPoint string) (*Plan, error) {
	p := &Plan{Kind: KindGPT}
	optionsOf := map[string][]string{} // by source, as in erofs_rootfs.rs: of two mounts with one source the last counts
	for _, m := range erofs {
		fi, err := os.Stat(m.Source)
		if err != nil {
			return nil, fmt.Errorf("gptdisk: failed to get size of EROFS layer: %w", err)
		}
		if fi.Size() == 0 {
			continue
		}
		p.Files = append(p.Files, m.Source)
		optionsOf[m.Source] = m.Options
	}
	if len(p.Files) == 0 {
		return nil, fmt.Errorf("gptdisk: no valid EROFS layers found for GPT VMDK")
	}
	var err error
	if p.Layout, err = gptdisk.NewLayout(p.Files); err != nil {
		return nil, fmt.Errorf("gptdisk: failed to generate GPT VMDK: %w", err)
	}
	for i, part := range p.Layout.Partitions {
		verity, err := verityOptions(optionsOf[part.Path], part.Path)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", i, err)
		}
		options := []string{agentapi.OptOverlayLower, agentapi.OptMultiLayer, agentapi.OptGPTPartitioned,
			fmt.Sprintf("%s%d", agentapi.OptPartitionNumber, part.Number)}
		p.Storages = append(p.Storages, storage(mountPoint, append(options, verity...)))
	}
	return p, nil
}

// planOne attaches a single EROFS mount, with the files of its device= options behind it.
func planOne(m *types.Mount, mountPoint string) (*Plan, error) {
	p := &Plan{Kind: KindSingle, Files: []string{m.Source}}
	var options []string
	for _, opt := range m.Options {
		if dev, ok := strings.CutPrefix(opt, "device="); ok {
			p.Kind, p.Files = KindMerged, append(p.Files, dev)
		} else if opt != "loop" && !strings.HasPrefix(opt, "X-kata.") {
			options = append(options, opt)
		}
	}
	for _, path := range p.Files {
		fi, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("EROFS device path not accessible: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return nil, fmt.Errorf("EROFS device path is not a regular file: %s", path)
		}
	}
	p.Storages = []agentapi.Storage{storage(mountPoint, append(options, agentapi.OptOverlayLower, agentapi.OptMultiLayer))}
	return p, nil
}

func storage(mountPoint string, options []string) agentapi.Storage {
	return agentapi.Storage{Driver: agentapi.DriverSCSI, FSType: typeErofs, MountPoint: mountPoint, Options: options}
}

// Disk is a disk to attach.
type Disk struct {
	Path     string
	VMDK     bool
	Writable bool
}

// WriteDisks makes the files that the disks need in dir and returns the disks.
func (p *Plan) WriteDisks(dir string) (disks []Disk, err error) {
	if p.Upper != "" {
		disks = append(disks, Disk{Path: p.Upper, Writable: true})
	}
	var path string
	switch p.Kind {
	case KindGPT:
		path, err = p.Layout.Write(dir)
	case KindMerged:
		path, err = gptdisk.Concatenate(dir, p.Files)
	default: // KindSingle has one file, KindPull none
		for _, path := range p.Files {
			disks = append(disks, Disk{Path: path})
		}
		return disks, nil
	}
	return append(disks, Disk{Path: path, VMDK: true}), err
}

// At returns the storages for disks at these SCSI addresses.
func (p *Plan) At(addresses []string) []agentapi.Storage {
	storages := make([]agentapi.Storage, len(p.Storages))
	for i, s := range p.Storages {
		switch {
		case p.Upper != "" && len(addresses) == 2:
			s.Source = addresses[min(i, 1)]
		case p.Kind == KindVolumes && i < len(addresses):
			s.Source = addresses[i]
		case p.Kind != KindVolumes && len(addresses) == 1:
			s.Source = addresses[0]
		}
		storages[i] = s
	}
	return storages
}
