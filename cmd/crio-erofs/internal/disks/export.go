package disks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Types of disks.
const (
	typeRaw   = "raw"
	typeGPT   = "gpt"
	typeVMDK  = "vmdk"
	typeQCOW2 = "qcow2"
)

var diskTypes = []string{typeRaw, typeGPT, typeVMDK, typeQCOW2}

type exportOptions struct {
	roots    nodestore.Roots
	diskType string
	format   output.Format
}

func newExportCommand() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export [flags] REF OUT",
		Short: "Make a disk of an image or of volumes",
		Long: `export makes a disk that a VM, or dm-verity and mount, can use. Its type is what --type says, or else what OUT ends with (.gpt,
.vmdk, .qcow2), or else raw:

  raw    one volume with its hash tree, of the whole image: the image volume, which is merged if it is not there yet
  qcow2  the same, converted by qemu-img
  gpt    a disk with a GPT partition for each volume, the topmost first, as Kata's runtime-rs lays them out
  vmdk   the same as a VMDK descriptor, which names the volumes where they are and copies nothing; beside it is a file
         OUT-tables.img with the partition table. The disk is good for as long as the volumes stay.

It prints what is needed to verify each volume: root hash, and where in its partition the verity superblock is.
OUT appears when it is complete, or not at all; equal volumes give equal disks.

` + target.Help,
		Example: `  crio-erofs export quay.io/fedora/fedora:42 fedora.img
  crio-erofs export --type gpt base.erofs,layer.erofs disk.img
  crio-erofs export --format json app:1 app.qcow2`,
		Args: cli.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0], args[1])
		},
	}
	target.AddFlag(cmd, &o.roots)
	cmd.Flags().StringVar(&o.diskType, "type", "", "type of the disk: "+strings.Join(diskTypes, ", ")+" (default: by the end of OUT, or raw)")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(diskTypes, cobra.ShellCompDirectiveNoFileComp))
	output.AddFlag(cmd, &o.format, exported{})
	return cmd
}

// exported is what export prints.
type exported struct {
	Path    string   `json:"path"`
	Type    string   `json:"type"`
	Volumes []onDisk `json:"volumes"`
}

// onDisk is a volume on a disk.
type onDisk struct {
	Partition  int    `json:"partition,omitempty"` // none: the disk is the volume
	Label      string `json:"label,omitempty"`
	Start      int64  `json:"start"` // in bytes
	Size       int64  `json:"size"`
	RootHash   string `json:"root_hash,omitempty"`
	HashOffset uint64 `json:"hash_offset,omitempty"` // from the start of the partition
}

func (o *exportOptions) run(ctx context.Context, stdout io.Writer, ref, out string) error {
	diskType := typeOf(o.diskType, out)
	if !slices.Contains(diskTypes, diskType) {
		return cli.Usage(fmt.Errorf("--type %q: want one of %s", o.diskType, strings.Join(diskTypes, ", ")))
	}
	t, err := target.Find(&o.roots, ref)
	if err != nil {
		return err
	}
	e := &exported{Path: out, Type: diskType}
	for _, path := range e.outputs() {
		if err := cli.CheckOutput(path, t.Volumes...); err != nil {
			return err
		}
	}
	switch diskType {
	case typeRaw:
		err = e.raw(ctx, t)
	case typeQCOW2:
		err = e.qcow2(ctx, t)
	case typeGPT:
		err = e.gpt(ctx, t)
	case typeVMDK:
		err = e.vmdk(t)
	}
	if err != nil {
		return fmt.Errorf("export %s to %s: %w", ref, out, err)
	}
	table := output.NewTable(output.Column{Name: "PARTITION"}, output.Column{Name: "START", Right: true},
		output.Column{Name: "SIZE", Right: true}, output.Column{Name: "HASH OFFSET", Right: true}, output.Column{Name: "ROOT HASH"})
	for _, v := range e.Volumes {
		table.Add(orWhole(v.Partition), v.Start, v.Size, v.HashOffset, v.RootHash)
	}
	return o.format.Print(stdout, e, table)
}

// typeOf returns the type that was asked for, by name or by what the file is called.
func typeOf(asked, out string) string {
	ending := strings.TrimPrefix(filepath.Ext(out), ".")
	switch {
	case asked != "":
		return asked
	case ending == typeGPT || ending == typeVMDK || ending == typeQCOW2:
		return ending
	}
	return typeRaw
}

// outputs are the files that are written.
func (e *exported) outputs() []string {
	if e.Type == typeVMDK {
		return []string{e.Path, e.tables()}
	}
	return []string{e.Path}
}

// tables is the file with the partition table that is beside a VMDK descriptor.
func (e *exported) tables() string { return e.Path + "-tables.img" }

func orWhole(partition int) string {
	if partition == 0 {
		return "none"
	}
	return fmt.Sprint(partition)
}

// raw writes one volume.
func (e *exported) raw(ctx context.Context, t *target.Target) error {
	return volume.WriteFile(e.Path, func(f *os.File) error { return e.writeImage(ctx, f, t) })
}

// writeImage writes the volume of the whole image: a copy, if there is one.
func (e *exported) writeImage(ctx context.Context, out *os.File, t *target.Target) error {
	path := ""
	switch {
	case len(t.Volumes) == 1:
		path = t.Volumes[0]
	case t.Manifest != nil && t.Manifest.Image != nil:
		path = t.Manifest.Image.Path
	}
	if path == "" {
		return e.merge(ctx, out, t)
	}
	size, err := e.add(path, 0, "", 0)
	if err != nil {
		return err
	}
	p := output.NewProgress("copying", size)
	defer p.End()
	return writeDisk(ctx, out, []segment{{path: path, sectors: sectorsOf(size)}}, p)
}

// merge writes the union of the volumes.
func (e *exported) merge(ctx context.Context, out *os.File, t *target.Target) error {
	layers := make([]volume.Layer, len(t.Volumes))
	for i, path := range t.Volumes {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		layers[i].File, layers[i].RootHash = f, t.RootHash(i)
	}
	d, _, err := volume.Merge(ctx, out, layers)
	if err != nil {
		return fmt.Errorf("merge %d volumes to one: %w", len(layers), err)
	}
	e.Volumes = append(e.Volumes, onDisk{Size: d.Size, RootHash: d.Verity.RootHash, HashOffset: d.Verity.HashOffset})
	return nil
}

// add notes that a volume is on the disk, and returns its size.
func (e *exported) add(path string, number int, label string, start int64) (int64, error) {
	f, size, err := cli.OpenVolume(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := volume.Inspect(f, size)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	v := onDisk{Partition: number, Label: label, Start: start, Size: size}
	if info.Verity != nil {
		v.RootHash, v.HashOffset = info.Verity.RootHash, info.Verity.HashOffset
	}
	e.Volumes = append(e.Volumes, v)
	return size, nil
}

// qcow2 has qemu-img convert the raw volume, which is in a directory of its own beside the output meanwhile.
func (e *exported) qcow2(ctx context.Context, t *target.Target) (err error) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		return fmt.Errorf("%w: install it (Debian: qemu-utils, Fedora: qemu-img)", err)
	}
	return volume.WriteFile(e.Path, func(f *os.File) (err error) {
		dir, err := os.MkdirTemp(filepath.Dir(e.Path), "."+filepath.Base(e.Path)+".*")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		raw := filepath.Join(dir, volume.FileName)
		if err := volume.WriteFile(raw, func(f *os.File) error { return e.writeImage(ctx, f, t) }); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, f.Name())
		text, err := cmd.CombinedOutput()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("qemu-img convert: %w: %s", err, strings.TrimSpace(string(text)))
		}
		return nil
	})
}

// table lays out the volumes as partitions, the topmost first: the first partition is the topmost lower directory
// (Kata 4.1.0, agent, storage/multi_layer_erofs.rs).
func (e *exported) table(t *target.Target) (*table, error) {
	var parts []partition
	for i, path := range slices.Backward(t.Volumes) {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		fi, err := os.Stat(abs)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("erofs-%d-s%s", len(t.Volumes)-1-i, filepath.Base(filepath.Dir(abs)))
		parts = append(parts, partition{path: abs, name: name[:min(len(name), maxNameLen)], sectors: sectorsOf(fi.Size())})
	}
	disk, err := newTable(parts)
	if err != nil {
		return nil, err
	}
	for i, p := range disk.parts {
		if _, err := e.add(p.path, i+1, p.name, p.start*sectorSize); err != nil {
			return nil, err
		}
	}
	return disk, nil
}

func (e *exported) gpt(ctx context.Context, t *target.Target) error {
	disk, err := e.table(t)
	if err != nil {
		return err
	}
	var total int64
	for _, p := range disk.parts {
		total += p.sectors * sectorSize
	}
	p := output.NewProgress("copying", total)
	defer p.End()
	return volume.WriteFile(e.Path, func(f *os.File) error { return writeDisk(ctx, f, disk.segments(), p) })
}

func (e *exported) vmdk(t *target.Target) error {
	disk, err := e.table(t)
	if err != nil {
		return err
	}
	tables := e.tables()
	text, data, err := descriptor(disk.segments(), tables)
	if err != nil {
		return err
	}
	if err := volume.WriteFile(tables, writer(data)); err != nil {
		return err
	}
	if err := volume.WriteFile(e.Path, writer([]byte(text))); err != nil {
		return errors.Join(err, os.Remove(tables))
	}
	return nil
}

func writer(b []byte) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.Write(b)
		return err
	}
}
