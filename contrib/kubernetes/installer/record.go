package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
)

// recordPath is where the node keeps what was installed on it.
const recordPath = "var/lib/crio-erofs/installed.json"

// recordVersion is the version of the record's format.
const recordVersion = 1

// record says what on a node is ours. It is written before the files are and knows what was there before and what comes,
// so that an installer that was killed half-way finds its own files again, of either version.
type record struct {
	Version int `json:"version"`
	// Files has, for each path, the sums of the contents that are ours; the last is the newest.
	Files map[string][]string `json:"files"`
	// Dirs are the directories that we made, parents first.
	Dirs []string `json:"dirs"`
}

// readRecord reads the node's record; of a node without one, an empty one.
func readRecord(host *os.Root) (*record, error) {
	r := &record{Version: recordVersion, Files: map[string][]string{}}
	content, err := host.ReadFile(recordPath)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("/%s: %w: if it is damaged, remove it, and by hand what was installed", recordPath, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("/%s has version %d, this installer knows %d: use the image that has installed these files",
			recordPath, r.Version, recordVersion)
	}
	if r.Files == nil {
		r.Files = map[string][]string{}
	}
	return r, nil
}

// owns tells whether content of a file is ours.
func (r *record) owns(f file) bool { return slices.Contains(r.Files[f.path], f.sum) }

// write stores the record on the node, or removes it if nothing is ours any more.
func (r *record) write(host *os.Root) error {
	if len(r.Files) == 0 {
		if err := host.Remove(recordPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := r.makeDirs(host, path.Dir(recordPath)); err != nil {
		return err
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if old, err := host.ReadFile(recordPath); err == nil && string(old) == string(content)+"\n" {
		return nil
	}
	made := temporary(recordPath)
	if err := host.WriteFile(made, append(content, '\n'), 0o644); err != nil {
		return err
	}
	f, err := host.Open(made)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return host.Rename(made, recordPath)
}

// makeDirs makes the directories of a path that are missing, and remembers them.
func (r *record) makeDirs(host *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if _, err := host.Stat(dir); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.makeDirs(host, path.Dir(dir)); err != nil {
		return err
	}
	if err := host.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if !slices.Contains(r.Dirs, dir) {
		r.Dirs = append(r.Dirs, dir)
	}
	return nil
}
