// Package target finds what a command's argument names: volumes as files, or an image or container of a node's store.
package target

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Help says in a command's help what its argument can be.
const Help = `REF is a volume (a file), several volumes with commas between them, the lowest first, or an image or container of the node's
store: by name, as podman and crictl take it, or by the beginning of its id. Files come before images: write a volume's
path with a slash if an image has that name. Of a container its image is meant, without what the container wrote.
The store's files are root's.`

// Target is what an argument names.
type Target struct {
	Label string // what people call it

	// Volumes are the paths of its volumes, the lowest first.
	Volumes []string

	// Stacked says that the volumes lie on each other: whiteouts hide what is below, also of a single one.
	Stacked bool

	// Manifest is what the store knows of an image's volumes; nil: they are files.
	Manifest *volume.Manifest
}

// RootHash returns the root hash that the store has for a volume of the target; empty: it has none, or does not know it.
func (t *Target) RootHash(i int) string {
	if t.Manifest == nil || t.Manifest.Volumes[i].Verity == nil {
		return ""
	}
	return t.Manifest.Volumes[i].Verity.RootHash
}

// Find finds what an argument names.
func Find(roots *nodestore.Roots, arg string) (*Target, error) {
	paths := strings.Split(arg, ",")
	if _, err := os.Stat(arg); err == nil {
		paths = []string{arg} // with a comma in its name
	}
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil && len(paths) == 1 && !isPath(arg) {
			return findStored(roots, arg)
		}
		if err != nil {
			return nil, err
		}
		if fi.IsDir() {
			return nil, fmt.Errorf("%s is a directory: want a volume, or an image or container", path)
		}
	}
	return &Target{Label: arg, Volumes: paths, Stacked: len(paths) > 1}, nil
}

// isPath says whether an argument that names no file cannot be meant as anything else.
func isPath(arg string) bool {
	return strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, "./") || strings.HasPrefix(arg, "../")
}

// notStored says that there is neither a file nor anything else of that name.
func notStored(arg string, err error) error {
	return fmt.Errorf("%s is no file, and as an image or container: %w", arg, err)
}

// files are opened volumes.
type files []*os.File

// Close closes all.
func (f files) Close() error {
	var errs []error
	for _, file := range f {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// Open opens the target's tree. The closer closes its files.
func (t *Target) Open() (*tree.Stack, io.Closer, error) {
	var opened files
	readers := make([]io.ReaderAt, len(t.Volumes))
	for i, path := range t.Volumes {
		f, err := os.Open(path)
		if err != nil {
			opened.Close()
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w: the store's volumes are root's", err)
			}
			return nil, nil, err
		}
		opened, readers[i] = append(opened, f), f
	}
	open := tree.OpenStack
	if !t.Stacked {
		open = func(r ...io.ReaderAt) (*tree.Stack, error) { return tree.Open(r[0]) }
	}
	s, err := open(readers...)
	if err != nil {
		opened.Close()
		return nil, nil, fmt.Errorf("%s: %w", t.Label, err)
	}
	return s, opened, nil
}
