package shim

import (
	"fmt"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

// trust looks at files and the directories that lead to them. Kata opens volumes by path after they were checked, so
// nobody but root may be able to put something else there in between.
type trust struct {
	parents safefile.Parents
}

// path returns an error unless all directories on the way to a file are to be trusted.
func (t *trust) path(path string) error { return t.parents.Check(path) }

// open opens a regular file that nobody but root, or whoever runs this, can have written or can replace.
func (t *trust) open(path string) (*os.File, error) {
	if err := t.path(path); err != nil {
		return nil, err
	}
	f, fi, err := safefile.Open(path)
	if err != nil {
		return nil, err
	}
	if err := safefile.CheckOwner(fi); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}
