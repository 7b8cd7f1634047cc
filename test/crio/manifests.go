package crio

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ManifestChanges are changes of a manifest, by sed.
var ManifestChanges = map[string]string{
	"root hash":       `s/\("root_hash": *"\)\([0-9a-f]\)\([0-9a-f]*\)"/\1\3\2"/g`,
	"another file":    `s,/volumes/[0-9a-f]*/layer.erofs",/volumes/../../../../elsewhere/layer.erofs",g`,
	"size":            `s/"size": *\([0-9]\)/"size": 1\1/g`,
	"another inode":   `s/"inode": *\([0-9]\)/"inode": 1\1/g`,
	"no verity":       `s/"verity":/"vanity":/g`,
	"another version": `s/"version": *1/"version": 2/`,
}

// editor stands in the place of Kata's shim. Its start runs after the hook and before the create, and may change the
// container's manifest, which is where the driver says (volume.ManifestPath).
const editor = `#!/bin/sh
if [ -s %[1]s/expression ]; then
	manifest=$(sed -n 's,.*"path": *"\([^"]*\)/merged".*,\1,p' config.json)/manifest.json
	sed -i.old -f %[1]s/expression "$manifest"
	cmp "$manifest" "$manifest.old" > %[1]s/difference 2>&1
fi
exec %[2]s "$@"
`

// ManifestEditor is a program to be given to CRI-O as Kata's shim, which it becomes. Before that it changes manifests.
type ManifestEditor struct{ dir string }

// NewManifestEditor writes the program to a folder.
func NewManifestEditor(dir, shim string) (*ManifestEditor, error) {
	if _, err := exec.LookPath("cmp"); err != nil {
		return nil, err
	}
	e := &ManifestEditor{dir: dir}
	return e, os.WriteFile(e.Program(), fmt.Appendf(nil, editor, dir, shim), 0o755)
}

// Program returns the program's path.
func (e *ManifestEditor) Program() string { return filepath.Join(e.dir, "editor") }

// Try has the manifests of containers changed that do creates: each has to be refused by the shim. do returns the
// error of the creation.
func (e *ManifestEditor) Try(what string, do func() error) error {
	expression, difference := filepath.Join(e.dir, "expression"), filepath.Join(e.dir, "difference")
	if err := os.WriteFile(expression, []byte(ManifestChanges[what]+"\n"), 0o644); err != nil {
		return err
	}
	refusal := do()
	if err := os.Truncate(expression, 0); err != nil {
		return err
	}
	d, err := os.ReadFile(difference)
	switch {
	case err != nil:
		return err
	case !strings.Contains(string(d), "differ: "):
		return fmt.Errorf("the manifest was not changed: %q", d)
	case refusal == nil:
		return errors.New("the container started")
	case !strings.Contains(refusal.Error(), "crio-erofs: "):
		return fmt.Errorf("the shim did not refuse the container: %w", refusal)
	}
	return os.Remove(difference)
}
