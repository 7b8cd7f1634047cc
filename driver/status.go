package driver

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	units "github.com/docker/go-units"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Status returns what "podman info" and "crio status info" show of the driver.
func (d *Driver) Status() [][2]string {
	return [][2]string{
		{"Backing Filesystem", d.backingFS},
		{"EROFS file-backed mounts", strconv.FormatBool(d.mount == MountFile)},
		{"Layout", string(d.options.layout)},
		{"Verity", onOff(d.options.tree)},
		{"Verify before mounts", onOff(d.options.verify)},
		{"Host dm-verity", onOff(d.options.hostVerity)},
		{imageStatusKey, d.imageStatus()},
		{"Writable layer in VMs", d.rwStatus()},
		{"ID-mapped mounts", d.shiftingStatus()},
		{"Project quotas", d.quotaStatus()},
		{"Store version", strconv.Itoa(storeVersion)},
		{"Overlay layers one by one", strconv.FormatBool(d.appendLowers)},
	}
}

// imageStatusKey is under what name Status tells of image volumes.
const imageStatusKey = "Image volumes"

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func (d *Driver) rwStatus() string {
	if !d.options.rwDisk {
		return "memory"
	}
	return "ext4, " + units.BytesSize(float64(d.options.rwSize))
}

// imageStatus says how image volumes are made, or why not.
func (d *Driver) imageStatus() string {
	if d.noImage != "" {
		return "none: " + d.noImage
	}
	return string(d.options.image)
}

// Metadata returns where a layer is and, of a volume layer, what it takes to open its volume with dm-verity.
func (d *Driver) Metadata(id string) (map[string]string, error) {
	chain, err := d.chain(id)
	if err != nil {
		return nil, err
	}
	l := chain[0]
	m := map[string]string{"Kind": string(l.Kind), "MergedDir": d.mergedDir(id)}
	if l.Kind == kindDirectory {
		m["UpperDir"], m["WorkDir"] = d.diffDir(id), d.workDir(id)
	} else if err := d.volumeMetadata(m, l); err != nil {
		return nil, err
	}
	var ids, dirs []string
	for _, lower := range chain[1:] {
		ids = append(ids, lower.ID)
		if lower.Kind == kindVolume {
			dirs = append(dirs, d.hostMount(lower.Volume))
		} else {
			dirs = append(dirs, d.storeOf(lower).diffDir(lower.ID))
		}
	}
	if len(ids) > 0 {
		m["LowerIDs"], m["LowerDir"] = strings.Join(ids, ","), strings.Join(dirs, ":")
	}
	return m, nil
}

func (d *Driver) volumeMetadata(m map[string]string, l *layer) error {
	home := d.storeOf(l)
	desc, err := home.readDescription(l.Volume)
	if err != nil {
		return err
	}
	maps.Copy(m, map[string]string{
		"Volume":        home.volumePath(l.Volume),
		"VolumeSize":    strconv.FormatInt(desc.Size, 10),
		"Layout":        string(desc.Layout),
		"FormatVersion": strconv.Itoa(desc.FormatVersion),
		"DiffID":        l.DiffID,
	})
	if r, err := d.readImage(l.ID); err == nil && r != nil {
		m["ImageVolume"] = d.volumePath(r.Volume)
	}
	if v := desc.Verity; v != nil {
		maps.Copy(m, map[string]string{
			"VerityFile":    home.volumeDir(l.Volume) + "/" + volume.VerityFileName,
			"RootHash":      v.RootHash,
			"DataBlockSize": strconv.FormatUint(uint64(v.DataBlockSize), 10),
			"DataBlocks":    strconv.FormatUint(v.DataBlocks, 10),
			"HashOffset":    strconv.FormatUint(v.HashOffset, 10),
			"TreeOffset":    strconv.FormatUint(v.TreeOffset, 10),
		})
	}
	return nil
}

func (d *Driver) shiftingStatus() string {
	if d.noShifting != "" {
		return "none: " + d.noShifting
	}
	return "true"
}

func (d *Driver) quotaStatus() string {
	if d.quota.Load() == nil {
		return "not used"
	}
	limit := d.options.quota
	return fmt.Sprintf("%s, %d inodes by default", units.BytesSize(float64(limit.Size)), limit.Inodes)
}
