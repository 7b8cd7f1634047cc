package driver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Reader looks at a store that a running CRI-O uses. It takes no lock, mounts nothing and changes nothing.
type Reader struct {
	driver *Driver // of which only what reads records is used
}

// NewReader returns a reader of the store at home, <graphroot>/erofs. Images may have layers in additional image stores,
// whose graph roots are given (erofs.imagestore).
func NewReader(home string, imageStores ...string) (*Reader, error) {
	r := &Reader{driver: &Driver{store: store{home: home}, options: options{imageStores: imageStores}}}
	var file versionFile
	if err := readJSON(r.driver.versionPath(), &file); err != nil {
		return nil, fmt.Errorf("%w: is %s the store of storage driver %s?", err, home, Name)
	}
	if !isKnown(file.Version) {
		return nil, fmt.Errorf("store %s has version %d, and this program knows %s only", home, file.Version, knownVersions())
	}
	if err := r.driver.openImageStores(); err != nil {
		return nil, err
	}
	return r, nil
}

// Volumes returns the names of the store's volumes.
func (r *Reader) Volumes() ([]string, error) {
	entries, err := os.ReadDir(r.driver.volumesDir())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Path returns where a volume is.
func (r *Reader) Path(name string) string { return r.driver.volumePath(name) }

// VerifyVolume reads all of a volume and holds it against what the store says of it: its root hash, its size and kind,
// and the file that Kata takes the root hash from. Without a tree only size and kind can be checked; the error then
// matches volume.ErrNoVerity. A volume that is removed meanwhile gives an error that matches fs.ErrNotExist.
func (r *Reader) VerifyVolume(ctx context.Context, name string, progress func(bytes int64)) (*volume.Description, error) {
	desc, err := r.driver.readDescription(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(r.driver.volumePath(name))
	if err != nil {
		return desc, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return desc, err
	}
	if fi.Size() != desc.Size {
		return desc, damaged(f.Name(), fi.Size(), desc.Size)
	}
	if err := r.verifyContent(ctx, f, desc, progress); err != nil {
		return desc, fmt.Errorf("volume %s: %w", f.Name(), err)
	}
	if volumeName(desc) != name {
		return desc, fmt.Errorf("volume %s is called %s, and by its content it should be %s", f.Name(), name, volumeName(desc))
	}
	return desc, nil
}

func (r *Reader) verifyContent(ctx context.Context, f *os.File, desc *volume.Description, progress func(int64)) error {
	if desc.Verity == nil {
		return volume.ErrNoVerity
	}
	info, err := volume.Verify(ctx, f, desc.Size, desc.Verity.RootHash, progress)
	if err != nil {
		return err
	}
	if info.Layout != desc.Layout || info.FormatVersion != desc.FormatVersion || *info.Verity != *desc.Verity {
		return fmt.Errorf("its record says layout %s, format version %d, %+v; it has %s, %d, %+v", desc.Layout, desc.FormatVersion,
			*desc.Verity, info.Layout, info.FormatVersion, *info.Verity)
	}
	if info.Tar != nil {
		if err := info.VerifyTar(ctx, f); err != nil {
			return err
		}
	}
	sidecar, err := os.Open(filepath.Join(filepath.Dir(f.Name()), volume.VerityFileName))
	if err != nil {
		return err
	}
	defer sidecar.Close()
	if err := volume.CheckVerityFile(sidecar, desc.Verity); err != nil {
		return fmt.Errorf("%s: %w", sidecar.Name(), err)
	}
	return nil
}

// DescribeImage says, as the manifest of a container would, of which volumes an image is whose top layer is given. There
// is an image volume if a container has had it made.
func (r *Reader) DescribeImage(top string) (*volume.Manifest, error) {
	below, err := r.driver.chain(top)
	if err != nil {
		return nil, err
	}
	container := &layer{ID: "container of " + top, Parent: top, Kind: kindDirectory}
	m, err := r.driver.describe(append([]*layer{container}, below...))
	if err != nil || m.Refusal != "" {
		return m, err
	}
	if len(m.Volumes) == 1 {
		m.Image = &m.Volumes[0]
		return m, nil
	}
	if m.Image = r.driver.findImage(top, imageKey(m.Volumes)); m.Image == nil {
		m.NoImage = "no container has needed it yet, or the options say that there is none"
	}
	return m, nil
}
