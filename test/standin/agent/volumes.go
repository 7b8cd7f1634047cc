package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// verityInfo is the dm_verity of a KataVirtualVolume (kata-types/src/mount.rs, DmVerityInfo). What only runtime-rs knows
// may be missing: nydus-snapshotter means no salt, format 1 and no superblock then.
type verityInfo struct {
	HashType     string `json:"hashtype"`
	Hash         string `json:"hash"`
	BlockNum     uint64 `json:"blocknum"`
	BlockSize    uint64 `json:"blocksize"`
	HashSize     uint64 `json:"hashsize"`
	Offset       uint64 `json:"offset"`
	Salt         string `json:"salt"`
	HashVersion  uint64 `json:"hash_type"`
	NoSuperblock bool   `json:"no_superblock"`
}

func parseVerityInfo(driverOptions []string) (*verityOptions, error) {
	for _, o := range driverOptions {
		text, ok := strings.CutPrefix(o, agentapi.OptVerityInfo)
		if !ok {
			continue
		}
		info := verityInfo{HashVersion: 1, NoSuperblock: true}
		if err := json.Unmarshal([]byte(text), &info); err != nil {
			return nil, fmt.Errorf("verity_info: %w", err)
		}
		if info.BlockSize == 0 || info.HashSize == 0 || info.BlockNum == 0 || info.Hash == "" {
			return nil, fmt.Errorf("verity_info %s is not complete", text)
		}
		return &verityOptions{algorithm: info.HashType, rootHash: info.Hash, salt: strings.TrimPrefix(info.Salt, "-"),
			blockSize: info.BlockSize, hashSize: info.HashSize, hashOffset: info.Offset, hashVersion: info.HashVersion,
			noSuper: info.NoSuperblock, blocks: info.BlockNum}, nil
	}
	return nil, errors.New("driver dmverity without verity_info")
}

// mountVolumes mounts raw block volumes and an overlay over them, as kata-containers#7837 does: the last storage is the
// overlay, whose options name the lowers, topmost first. After an error nothing stays mounted.
func mountVolumes(cid string, storages []agentapi.Storage, diffIDs []string) (*rootfs, error) {
	overlay := storages[len(storages)-1]
	if diffIDs != nil && len(diffIDs) != len(storages)-1 {
		return nil, fmt.Errorf("%d volumes, the image has %d", len(storages)-1, len(diffIDs))
	}
	r := &rootfs{base: filepath.Join(containerBase, cid), mountPoint: overlay.MountPoint}
	var err error
	for i := range storages[:len(storages)-1] {
		diffID := ""
		if diffIDs != nil {
			diffID = diffIDs[i]
		}
		if err = r.mountVolume(&storages[i], diffID); err != nil {
			break
		}
	}
	if err == nil {
		var want []string
		for _, lower := range r.lowers {
			want = append(want, "lowerdir="+lower)
		}
		if !slices.Equal(want, overlay.Options) {
			err = fmt.Errorf("overlay of %q over volumes on %q", overlay.Options, r.lowers)
		}
	}
	if err == nil {
		err = r.mountOverlay()
	}
	if err != nil {
		return nil, errors.Join(err, r.unmount())
	}
	return r, nil
}

// mountVolume mounts a volume; if there is a diffID, only after it was checked against that.
func (r *rootfs) mountVolume(s *agentapi.Storage, diffID string) error {
	if !strings.HasPrefix(s.MountPoint, agentapi.VolumesDir+"/") || strings.Contains(s.MountPoint, "..") {
		return fmt.Errorf("mount point %q of a volume", s.MountPoint)
	}
	dev, err := scsiDisk(s.Source)
	if err != nil {
		return err
	}
	var verity string
	switch s.Driver {
	case agentapi.DriverSCSI:
		if diffID != "" {
			return fmt.Errorf("volume on disk %s has no dm-verity, so that the host could change it after it was checked", s.Source)
		}
	case agentapi.DriverVerity:
		v, err := parseVerityInfo(s.DriverOptions)
		disk := dev
		if err == nil {
			verity, dev, err = openVerity(dev, v)
		}
		if err != nil {
			return fmt.Errorf("failed to create dm-verity device over disk %s: %w", s.Source, err)
		}
		if diffID == "" {
			break
		}
		if err := verifyTarfs(disk, dev, v, diffID); err != nil {
			return errors.Join(fmt.Errorf("volume on disk %s: %w", s.Source, err), closeVerity(verity))
		}
	default:
		return fmt.Errorf("unsupported driver %q of a volume", s.Driver)
	}
	if err = os.MkdirAll(s.MountPoint, 0o755); err == nil {
		err = unix.Mount(dev, s.MountPoint, s.FSType, unix.MS_RDONLY, "")
	}
	if err != nil {
		err = fmt.Errorf("failed to mount volume %s on %s: %w%s", dev, s.MountPoint, err, verityHint(err))
		if verity != "" {
			err = errors.Join(err, closeVerity(verity))
		}
		return err
	}
	r.mounts = append(r.mounts, s.MountPoint)
	r.lowers = append(r.lowers, s.MountPoint)
	r.verity = append(r.verity, verity)
	return nil
}
