package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// places are the directories that a payload may write to, in the order of writing: programs before what names them, and
// the service's drop-in, which puts all of it into use, last. Removal goes the other way.
var places = []string{
	"usr/local/bin", "etc/crio-erofs", "opt/nri/plugins", "usr/share/containers/oci/hooks.d", "etc/crio/crio.conf.d",
	"etc/systemd/system/crio.service.d",
}

// programs is the place of the programs: what is there is ours or an error, and it is removed last.
const programs = "usr/local/bin"

// file is one file or link, by its path below the root.
type file struct {
	path string
	mode fs.FileMode // permissions of a file
	link string      // target of a link
	sum  string      // sha256 of a file's content, or "link:" and the target
}

// place returns the index of the file's directory in places.
func (f file) place() int { return slices.Index(places, path.Dir(f.path)) }

// isProgram tells programs from configuration.
func (f file) isProgram() bool { return path.Dir(f.path) == programs }

// describe reads a file or link. The error matches fs.ErrNotExist if there is none.
func describe(root *os.Root, name string) (file, error) {
	f := file{path: name}
	info, err := root.Lstat(name)
	if err != nil {
		return f, err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if f.link, err = root.Readlink(name); err != nil {
			return f, err
		}
		f.sum = "link:" + f.link
		return f, nil
	case !info.Mode().IsRegular():
		return f, fmt.Errorf("%s is neither a file nor a link", name)
	}
	f.mode = info.Mode().Perm()
	content, err := root.Open(name)
	if err != nil {
		return f, err
	}
	defer content.Close()
	h := sha256.New()
	if _, err := io.Copy(h, content); err != nil {
		return f, err
	}
	f.sum = hex.EncodeToString(h.Sum(nil))
	return f, nil
}

// readPayload lists what is to be installed, in the order of places.
func readPayload(root *os.Root) ([]file, error) {
	var files []file
	err := fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		f, err := describe(root, name)
		if err != nil {
			return err
		}
		if f.place() < 0 {
			return fmt.Errorf("%s: the node gets files in %s only", name, strings.Join(places, ", "))
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("payload %s: %w", root.Name(), err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("payload %s has no files: the image was not built by contrib/kubernetes/Containerfile",
			root.Name())
	}
	slices.SortStableFunc(files, func(a, b file) int { return a.place() - b.place() })
	return files, nil
}

// temporary returns the name under which a file is made. Whoever reads a directory must not find a half-written file in it:
// CRI-O reads all files of crio.conf.d, NRI all programs of plugins, systemd those with the suffix .conf and the hooks'
// reader those with .json.
func temporary(name string) string {
	dir, base := path.Split(name)
	switch path.Clean(dir) {
	case "etc/crio/crio.conf.d", "opt/nri/plugins":
		dir = path.Dir(path.Clean(dir))
	}
	return path.Join(dir, ".crio-erofs-"+base+".new")
}

// put writes a file of the payload to the node: complete and synced under its name, or not at all.
func put(payload, host *os.Root, f file) (err error) {
	made := temporary(f.path)
	if err := host.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() {
		if err != nil {
			host.Remove(made) // whatever there is of it
		}
	}()
	if f.link != "" {
		err = host.Symlink(f.link, made)
	} else {
		err = copyFile(payload, host, f, made)
	}
	if err != nil {
		return err
	}
	return host.Rename(made, f.path)
}

// copyFile copies the content of f to the new file made.
func copyFile(payload, host *os.Root, f file, made string) error {
	from, err := payload.Open(f.path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := host.OpenFile(made, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Chmod(f.mode) // whatever the umask took
	}
	if err == nil {
		err = to.Sync()
	}
	return errors.Join(err, to.Close())
}
