package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// wanted are the modules that the stand-in's guest uses; what they depend on is found out. A name may be missing from
// a kernel that has it built in.
var wanted = []string{
	"virtio_pci", "virtio_console", // the agent's channel
	"virtio_scsi", "sd_mod", // the disks of containers
	"virtio_net", // a guest that pulls images itself
	"dm_verity", "erofs", "overlay", "ext4",
}

// module is a kernel module in the order of loading.
type module struct {
	name string
	data []byte
}

// moduleSet finds modules below a directory.
type moduleSet struct {
	paths   map[string]string // name with underscores to file
	builtin map[string]bool
	seen    map[string]bool
	order   []module
}

// loadOrder returns these modules of the kernel below root and what they depend on, dependencies first.
func loadOrder(ctx context.Context, root string, wanted []string) ([]module, error) {
	set := &moduleSet{paths: map[string]string{}, builtin: map[string]bool{}, seen: map[string]bool{}}
	if err := set.scan(filepath.Join(root, "lib", "modules")); err != nil {
		return nil, err
	}
	for _, name := range wanted {
		if err := set.add(ctx, name); err != nil {
			return nil, err
		}
	}
	return set.order, nil
}

func (s *moduleSet) scan(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Name() == "modules.builtin" {
			return s.readBuiltin(path)
		}
		if base, _, ok := strings.Cut(d.Name(), ".ko"); ok {
			s.paths[moduleName(base)] = path
		}
		return nil
	})
}

func (s *moduleSet) readBuiltin(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, line := range strings.Fields(string(b)) {
		s.builtin[moduleName(strings.TrimSuffix(filepath.Base(line), ".ko"))] = true
	}
	return nil
}

// moduleName maps a file's name to the kernel's name of the module, which never has a dash.
func moduleName(base string) string { return strings.ReplaceAll(base, "-", "_") }

func (s *moduleSet) add(ctx context.Context, name string) error {
	name = moduleName(name)
	if s.seen[name] || s.builtin[name] {
		return nil
	}
	s.seen[name] = true
	path, ok := s.paths[name]
	if !ok {
		return fmt.Errorf("the kernel has no module %s and has it not built in", name)
	}
	data, err := readModule(ctx, path)
	if err != nil {
		return err
	}
	depends, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, dep := range depends {
		if err := s.add(ctx, dep); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	s.order = append(s.order, module{name, data})
	return nil
}

// readModule returns a module's ELF file; Debian compresses modules with xz since 6.6.
func readModule(ctx context.Context, path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".ko":
		return os.ReadFile(path)
	case ".xz":
		out, err := run(ctx, "/", "xz", "-dc", path)
		return []byte(out), err
	case ".zst":
		return exec.CommandContext(ctx, "zstd", "-dc", path).Output()
	}
	return nil, fmt.Errorf("%s: unknown compression", path)
}

// dependencies reads "depends=a,b" from the section that modinfo(8) shows. The package has no modules.dep: depmod(8)
// would make it at installation.
func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Split(string(info), "\x00") {
		if deps, ok := strings.CutPrefix(field, "depends="); ok && deps != "" {
			return strings.Split(deps, ","), nil
		}
	}
	return nil, nil
}
