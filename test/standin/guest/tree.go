package guest

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// libraryDirs is where Debian's dynamic linker looks without a configuration.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"}

// Tree writes files of the host's as an initramfs. It goes behind that of a guest: the kernel unpacks all that it is
// given, in order (Documentation/driver-api/early-userspace/buffer-format.rst).
type Tree struct {
	c    *cpioWriter
	done map[string]bool
}

// NewTree starts a tree. Its end has to be written by Close.
func NewTree(w io.Writer) *Tree {
	return &Tree{c: &cpioWriter{w: w}, done: map[string]bool{".": true, "/": true}}
}

// Tool adds a program of the host's, found in PATH, as /bin/<name>.
func (t *Tree) Tool(name string) error {
	found, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("the guest needs a program of the host's: %w", err)
	}
	return t.Add("/bin/"+name, found)
}

// Add puts a file or directory of the host's at a path in the guest. Links are followed. With a program come its
// dynamic linker and its libraries.
func (t *Tree) Add(name, source string) error {
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return t.addDir(name, source)
	}
	b, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	t.Write(name, fi.Mode().Perm(), b)
	if fi.Mode().Perm()&0o111 == 0 {
		return t.c.err
	}
	return errors.Join(t.addLibraries(source), t.c.err)
}

func (t *Tree) addDir(name, source string) error {
	t.parents(path.Join(name, "x"))
	entries, err := os.ReadDir(source)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.Add(path.Join(name, e.Name()), filepath.Join(source, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Write adds a file with this content.
func (t *Tree) Write(name string, mode os.FileMode, content []byte) {
	name = path.Clean("/" + name)
	if t.done[name] {
		return
	}
	t.done[name] = true
	t.parents(name)
	t.c.add(name[1:], cpioRegular|int(mode.Perm()), content)
}

// parents adds the directories above a file.
func (t *Tree) parents(name string) {
	dir := path.Dir(name)
	if t.done[dir] {
		return
	}
	t.done[dir] = true
	t.parents(dir)
	t.c.add(dir[1:], cpioDir|0o755, nil)
}

// addLibraries adds what a dynamically linked program or library needs.
func (t *Tree) addLibraries(source string) error {
	f, err := elf.Open(source)
	if err != nil {
		return nil // a script
	}
	defer f.Close()
	if err := t.addLinker(f); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	names, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	for _, name := range names {
		library := findLibrary(name)
		if library == "" {
			return fmt.Errorf("%s needs %s, which is in none of %s", source, name, strings.Join(libraryDirs, ", "))
		}
		if t.done[library] {
			continue
		}
		b, err := os.ReadFile(library)
		if err != nil {
			return err
		}
		t.Write(library, 0o755, b)
		if err := t.addLibraries(library); err != nil {
			return err
		}
	}
	return nil
}

func findLibrary(name string) string {
	for _, dir := range libraryDirs {
		candidate := path.Join(dir, name)
		if _, err := os.Stat(candidate); err == nil {
			return candidate
		}
	}
	return ""
}

// addLinker adds the program's dynamic linker.
func (t *Tree) addLinker(f *elf.File) error {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b, err := io.ReadAll(p.Open())
		if err != nil {
			return err
		}
		linker := strings.TrimRight(string(b), "\x00")
		content, err := os.ReadFile(linker)
		if err != nil {
			return err
		}
		t.Write(linker, 0o755, content)
	}
	return nil
}

// Close writes the tree's end.
func (t *Tree) Close() error { return t.c.close() }
