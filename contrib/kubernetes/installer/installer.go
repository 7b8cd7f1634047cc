package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// installer brings a node's files to what a payload has.
type installer struct {
	payload, host *os.Root
	out           io.Writer
}

// newInstaller opens both directories. Nothing outside of them is read or written, wherever links lead.
func newInstaller(payload, host string, out io.Writer) (*installer, error) {
	p, err := os.OpenRoot(payload)
	if err != nil {
		return nil, err
	}
	h, err := os.OpenRoot(host)
	if err != nil {
		p.Close()
		return nil, err
	}
	return &installer{payload: p, host: h, out: out}, nil
}

// Close closes both directories.
func (i *installer) Close() error { return errors.Join(i.payload.Close(), i.host.Close()) }

// say reports what became of a file of the node.
func (i *installer) say(what, name string) { fmt.Fprintf(i.out, "%-9s /%s\n", what, name) }

// plan is what Install is going to do.
type plan struct {
	files  []file  // the payload's
	record *record // of the node

	write []file // missing, or ours and of another version
	kept  []file // configuration that somebody has changed
	gone  []file // ours, and not in this payload any more
}

// Install writes the payload's files to the node. It checks all of them before it writes the first.
func (i *installer) Install() error {
	p, err := i.plan()
	if err != nil {
		return err
	}
	r := p.record
	for _, f := range p.write {
		if err := r.makeDirs(i.host, path.Dir(f.path)); err != nil {
			return err
		}
		if !r.owns(f) {
			r.Files[f.path] = append(r.Files[f.path], f.sum)
		}
	}
	if err := r.write(i.host); err != nil {
		return err
	}
	for _, f := range p.write {
		if err := put(i.payload, i.host, f); err != nil {
			return err
		}
		r.Files[f.path] = []string{f.sum}
		i.say("wrote", f.path)
	}
	for _, f := range p.kept {
		i.say("kept", f.path+": changed on this node")
	}
	if err := i.remove(r, p.gone); err != nil {
		return err
	}
	return r.write(i.host)
}

// plan reads the payload and the node's record, and compares the node with them.
func (i *installer) plan() (*plan, error) {
	files, err := readPayload(i.payload)
	if err != nil {
		return nil, err
	}
	r, err := readRecord(i.host)
	if err != nil {
		return nil, err
	}
	p := &plan{files: files, record: r}
	return p, i.compare(p)
}

// compare fills in the plan. What is in the way is an error that names all of it.
func (i *installer) compare(p *plan) error {
	var foreign []string
	for _, f := range p.files {
		there, err := describe(i.host, f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			p.write = append(p.write, f)
		case err != nil:
			return err
		case p.record.owns(there):
			if there.sum != f.sum || f.link == "" && there.mode != f.mode {
				p.write = append(p.write, f)
			}
		case f.isProgram():
			foreign = append(foreign, "/"+f.path)
		default:
			p.kept = append(p.kept, there)
		}
	}
	if len(foreign) > 0 {
		return fmt.Errorf("%s: not from this installer: remove it from the node first (or the package that it is of)",
			strings.Join(foreign, ", "))
	}
	for name := range p.record.Files {
		if !slices.ContainsFunc(p.files, func(f file) bool { return f.path == name }) {
			p.gone = append(p.gone, file{path: name})
		}
	}
	return nil
}

// Uninstall removes what was installed and is unchanged: the service's drop-in first. The programs are removed only if
// asked for.
func (i *installer) Uninstall(withPrograms bool) error {
	r, err := readRecord(i.host)
	if err != nil {
		return err
	}
	var files []file
	for name := range r.Files {
		if f := (file{path: name}); withPrograms || !f.isProgram() {
			files = append(files, f)
		}
	}
	if err := i.remove(r, files); err != nil {
		return err
	}
	if err := r.write(i.host); err != nil {
		return err
	}
	if len(r.Files) == 0 {
		i.removeDirs(r)
	}
	return nil
}

// remove removes files of ours in the reverse order of writing, and forgets them. What was changed stays.
func (i *installer) remove(r *record, files []file) error {
	slices.SortFunc(files, func(a, b file) int {
		if a.place() != b.place() {
			return b.place() - a.place()
		}
		return strings.Compare(a.path, b.path)
	})
	for _, f := range files {
		there, err := describe(i.host, f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !r.owns(there):
			i.say("kept", f.path+": changed on this node")
		default:
			if err := i.host.Remove(f.path); err != nil {
				return err
			}
			i.say("removed", f.path)
		}
		delete(r.Files, f.path)
	}
	return nil
}

// removeDirs removes the directories that we made and that are empty now.
func (i *installer) removeDirs(r *record) {
	for _, dir := range slices.Backward(r.Dirs) {
		i.host.Remove(dir) // fails if somebody else's files are in it, or if it is where the pod has a volume
	}
}

// Status fails unless each of the payload's files is on the node, or there as the node's administrator wants it.
func (i *installer) Status() error {
	p, err := i.plan()
	if err != nil {
		return err
	}
	for _, f := range p.write {
		i.say("missing", f.path)
	}
	for _, f := range p.gone {
		i.say("left over", f.path)
	}
	if n := len(p.write) + len(p.gone); n > 0 {
		return fmt.Errorf("%d of %d files are not as this image has them: run the installer's install", n, len(p.files))
	}
	return nil
}
