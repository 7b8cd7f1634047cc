package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/drivers/vfs"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	_ "github.com/crio-erofs/crio-erofs/driver" // registers itself
)

// What is measured of a driver.
const (
	pulls   = "pull of "
	synced  = "pull to the disk of " // with what is left to write after the pull
	starts  = "create and mount a container of "
	removal = "remove an image of 1 GB in 40,000 files"
	disk    = "disk used by both trees"
	shared  = "disk used with a tree once more, on the other"
)

var storageColumns = []string{
	pulls + debian, pulls + npm, synced + debian, synced + npm, removal, starts + "1 layers", starts + "10 layers", starts + "100 layers", disk, shared,
}

func init() {
	graphdriver.MustRegister(driverDiscard, func(home string, o graphdriver.Options) (graphdriver.Driver, error) {
		d, err := vfs.Init(home, o)
		return discard{d}, err
	})
}

// discard is a driver that throws layers away.
type discard struct{ graphdriver.Driver }

// ApplyDiff reads the layer.
func (discard) ApplyDiff(_, _ string, o graphdriver.ApplyDiffOpts) (int64, error) {
	return io.Copy(io.Discard, o.Diff)
}

// newStorageCommand is how this program starts itself to do with one driver what is measured.
func newStorageCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "storage DRIVER DIR REMOVAL NAME=TAR...",
		Hidden: true,
		Args:   cobra.MinimumNArgs(4),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o := storage.StoreOptions{
				GraphRoot: filepath.Join(args[1], "graph"), RunRoot: filepath.Join(args[1], "run"), GraphDriverName: args[0],
			}
			if args[0] == driverOverlay {
				// Or its home is a mount, which stays if this process is killed.
				o.GraphDriverOptions = []string{"overlay.skip_mount_home=true"}
			}
			s, err := storage.GetStore(o)
			if err != nil {
				return err
			}
			defer func() {
				_, shutdown := s.Shutdown(true)
				err = errors.Join(err, shutdown)
			}()
			m := &measured{driver: args[0], store: s, dir: args[1], row: &storageRow{Times: map[string]float64{}, Bytes: map[string]int64{}}}
			if err := m.all(cmd.Context(), args[2] == "true", args[3:]); err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(m.row)
		},
	}
}

// measured is a store whose doings are measured.
type measured struct {
	driver string
	store  storage.Store
	dir    string
	row    *storageRow
}

func (m *measured) all(ctx context.Context, withRemoval bool, inputs []string) error {
	var layers, paths []string
	for _, in := range inputs {
		name, path, _ := strings.Cut(in, "=")
		id, took, err := m.pullFile("", path)
		if err != nil {
			return err
		}
		m.row.Times[pulls+name] = took
		start := time.Now()
		unix.Sync()
		m.row.Times[synced+name] = took + time.Since(start).Seconds()
		layers, paths = append(layers, id), append(paths, path)
	}
	if m.driver == driverDiscard {
		return nil // it has nothing to show for the rest
	}
	if err := m.used(ctx, disk); err != nil {
		return err
	}
	if _, _, err := m.pullFile(layers[0], paths[1]); err != nil {
		return err
	}
	if err := m.used(ctx, shared); err != nil {
		return err
	}
	for _, n := range []int{1, 10, 100} {
		if err := m.containers(n); err != nil {
			return err
		}
	}
	if !withRemoval {
		return nil
	}
	return m.removal()
}

func (m *measured) pullFile(parent, path string) (string, float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	sum, err := digest.FromReader(f)
	if err != nil {
		return "", 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	// As in CRI-O's pulls (containers/image, storage/storage_dest.go, createNewLayer): the digests are known from the
	// image's manifest and configuration and have been seen to match, so containers/storage does not compute them again.
	return m.pull(parent, f, &storage.LayerOptions{OriginalDigest: sum, UncompressedDigest: sum})
}

// pull returns how long the layer took. What earlier ones have left to write is written before.
func (m *measured) pull(parent string, layer io.Reader, known *storage.LayerOptions) (string, float64, error) {
	unix.Sync()
	start := time.Now()
	l, _, err := m.store.PutLayer("", parent, nil, "", false, known, layer)
	if err != nil {
		return "", 0, err
	}
	return l.ID, time.Since(start).Seconds(), nil
}

// used counts the disk's used blocks.
func (m *measured) used(ctx context.Context, what string) error {
	unix.Sync()
	said, err := sh(ctx, `du --one-file-system --summarize --block-size=1 "$1/graph" | cut -f1`, m.dir)
	if err != nil {
		return err
	}
	m.row.Bytes[what], err = strconv.ParseInt(strings.TrimSpace(said), 10, 64)
	return err
}

// containers creates and mounts containers of an image of n small layers, one after another.
func (m *measured) containers(n int) error {
	top := ""
	for i := range n {
		var layer bytes.Buffer
		if err := writeTar(&layer, 10, func(j int) (string, int64) { return fmt.Sprintf("d%d/f%d", i, j), 1000 }); err != nil {
			return err
		}
		id, _, err := m.pull(top, &layer, nil)
		if err != nil {
			return err
		}
		top = id
	}
	d, err := m.store.GraphDriver()
	if err != nil {
		return err
	}
	best := 0.0
	for i := range 20 {
		start := time.Now()
		if err := d.CreateReadWrite("container", top, nil); err != nil {
			return err
		}
		if _, err := d.Get("container", graphdriver.MountOpts{}); err != nil {
			return err
		}
		if took := time.Since(start).Seconds(); i == 0 || took < best {
			best = took
		}
		if err := errors.Join(d.Put("container"), d.Remove("container")); err != nil {
			return err
		}
	}
	m.row.Times[starts+strconv.Itoa(n)+" layers"] = best
	return nil
}

// removal removes a large layer with many files.
func (m *measured) removal() error {
	r, w := io.Pipe()
	go func() {
		const files, size = 40_000, 25_000
		_ = w.CloseWithError(writeTar(w, files, func(j int) (string, int64) {
			return fmt.Sprintf("usr/lib/%d/file%d", j/100, j), size
		}))
	}()
	id, _, err := m.pull("", r, nil)
	if err != nil {
		return err
	}
	unix.Sync()
	start := time.Now()
	if err := m.store.DeleteLayer(id); err != nil {
		return err
	}
	m.row.Times[removal] = time.Since(start).Seconds()
	return nil
}
