package driver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// lostAndFound is what ext4 and xfs put into the root of a file system, which may be one of the store's directories.
const lostAndFound = "lost+found"

// checkForeign refuses a directory that is somebody else's: it has things in it, and never was a store.
func (s store) checkForeign() error {
	entries, err := os.ReadDir(s.home)
	if err != nil {
		return err
	}
	foreign := ""
	for _, e := range entries {
		switch e.Name() {
		case filepath.Base(s.versionPath()), filepath.Base(s.lockPath()):
			return nil
		case lostAndFound:
		default:
			foreign = e.Name()
		}
	}
	if foreign == "" {
		return nil
	}
	return fmt.Errorf("%s has %s in it and is no store of this driver's: move that away, or set graphroot (CRI-O: root) to "+
		"another directory", s.home, foreign)
}

// isForeign says whether something in layers/ never was a layer: it has things in it, and none of those that a layer has.
func (s store) isForeign(id string) bool {
	if id == lostAndFound {
		return true
	}
	if _, err := os.Lstat(s.recordPath(id)); err == nil {
		return false
	}
	ours := map[string]bool{}
	for _, path := range []string{
		s.recordPath(id), s.linkPath(id), s.imageRecordPath(id), s.imageLinkPath(id), s.rwLayerPath(id), s.diffDir(id),
		s.workDir(id), s.mergedDir(id),
	} {
		name := filepath.Base(path)
		ours[name], ours[name+".new"] = true, true
	}
	entries, err := os.ReadDir(s.layerDir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		return true // not a directory
	}
	for _, e := range entries {
		if ours[e.Name()] {
			return false
		}
	}
	return len(entries) > 0
}

// isVolumeName says whether a name is one that a volume can have; others are not this driver's.
func isVolumeName(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == volumeNameLen
}

// warnForeign tells of something in the store that is not the driver's, which it therefore leaves alone.
func warnForeign(path string) {
	if filepath.Base(path) != lostAndFound {
		log.WithField(fieldPath, path).Warn("Not the driver's, which leaves it alone: move it away")
	}
}
