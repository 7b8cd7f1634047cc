package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/crioconfig"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// Options say where to look. Empty paths stand for the usual ones, or for what the running CRI-O was told.
type Options struct {
	Root          string // of a tree that is to become a node; empty: this machine
	CrioProgram   string
	CrioConfig    string
	CrioConfigDir string
	Socket        string // CRI-O's
	Config        string // crio-erofs's
}

// Node is what is looked at.
type Node struct {
	options Options
	source  crioconfig.Source

	crio    *crioconfig.Config // of the files; never nil
	crioErr error

	live    *crioconfig.Config // what the running CRI-O goes by; nil if none runs
	liveErr error
	pid     int // of the running CRI-O; 0 if unknown

	modes    *modes.Config // nil if the file cannot be used
	modesErr error
}

// Open finds out what there is. It puts CRI-O's environment in the place of this process's, if CRI-O runs: what the shim
// and containers/storage find in theirs is what counts.
func Open(ctx context.Context, o Options) (*Node, error) {
	n := &Node{options: o, source: crioconfig.Source{Root: o.Root, Path: o.CrioConfig, Dir: o.CrioConfigDir}}
	if o.Root != "" {
		root, err := filepath.Abs(o.Root)
		if err != nil {
			return nil, err
		}
		if fi, err := os.Stat(root); err != nil || !fi.IsDir() {
			return nil, fmt.Errorf("--root %s is not a directory", o.Root)
		}
		n.options.Root, n.source.Root = root, root
	} else {
		n.source.Getenv = os.Getenv
	}
	n.readConfig()
	if !n.isTree() {
		n.findCRIO(ctx)
	}
	n.loadModes()
	return n, nil
}

func (n *Node) isTree() bool { return n.options.Root != "" }

func (n *Node) readConfig() {
	if n.crio, n.crioErr = n.source.Read(); n.crio == nil {
		n.crio = &crioconfig.Config{}
	}
}

// findCRIO asks the running CRI-O, and looks again where its command line and its environment say.
func (n *Node) findCRIO(ctx context.Context) {
	socket := n.options.Socket
	if socket == "" {
		socket = n.crio.API.Listen
	}
	if socket == "" {
		socket = crioconfig.DefaultListen
	}
	if n.live, n.pid, n.liveErr = crioconfig.Live(ctx, socket); n.live == nil || n.pid == 0 {
		return
	}
	if err := adoptEnvironment(n.pid); err != nil {
		n.liveErr = err
		return
	}
	told := commandLine(argumentsOf(n.pid))
	if n.options.CrioConfig == "" {
		n.source.Path = told.path
	}
	if n.options.CrioConfigDir == "" {
		n.source.Dir = told.dir
	}
	n.readConfig()
	told.apply(n.crio)
}

// adoptEnvironment makes the environment of a process that of this one.
func adoptEnvironment(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return fmt.Errorf("environment of CRI-O: %w", err)
	}
	os.Clearenv()
	var errs []error
	for entry := range bytes.SplitSeq(b, []byte{0}) {
		if key, value, ok := strings.Cut(string(entry), "="); ok {
			errs = append(errs, os.Setenv(key, value))
		}
	}
	return errors.Join(errs...)
}

// configPath returns where crio-erofs's own configuration is, and whether somebody named it: then it has to be there.
func (n *Node) configPath() (path string, named bool) {
	if n.options.Config != "" {
		return n.options.Config, true
	}
	if !n.isTree() {
		if path := os.Getenv(modes.Environment); path != "" {
			return path, true
		}
	}
	return modes.DefaultPath, false
}

func (n *Node) loadModes() {
	path, named := n.configPath()
	real, err := n.source.Resolve(path)
	if err != nil {
		n.modesErr = err
		return
	}
	if _, err := os.Stat(real); err != nil && errors.Is(err, os.ErrNotExist) && !named {
		n.modes = &modes.Config{}
		return
	}
	n.modes, n.modesErr = modes.Load(real)
}

// program returns where CRI-O's program is on this machine, and its path on the node.
func (n *Node) program() (real, path string, err error) {
	if n.pid != 0 {
		exe := fmt.Sprintf("/proc/%d/exe", n.pid)
		path, err := os.Readlink(exe)
		return exe, path, err
	}
	candidates := []string{"/usr/local/bin/crio", "/usr/bin/crio", "/usr/local/sbin/crio", "/usr/sbin/crio"}
	if n.options.CrioProgram != "" {
		candidates = []string{n.options.CrioProgram}
	} else if found, err := exec.LookPath("crio"); err == nil && !n.isTree() {
		candidates = append(candidates, found)
	}
	for _, path := range candidates {
		real, err := n.source.Resolve(path)
		if err != nil {
			return "", "", err
		}
		if _, err := os.Stat(real); err == nil {
			return real, path, nil
		}
	}
	return "", "", fmt.Errorf("no crio in %s", strings.Join(candidates, ", "))
}

// stat looks at a file of the node.
func (n *Node) stat(path string) (os.FileInfo, error) {
	real, err := n.source.Resolve(path)
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(real)
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		pathErr.Path = path
	}
	return fi, err
}

// runnable returns an error if a file of the node is not a program.
func (n *Node) runnable(path string) error {
	fi, err := n.stat(path)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", path)
	}
	return nil
}
