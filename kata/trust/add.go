package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Add puts a measurement, or one that one of the keys has signed, into the directory and returns the file's path. It
// refuses what contradicts a measurement that is there, because with both no container of the image would be started.
func (d *Dir) Add(ctx context.Context, doc []byte, keys []*Key) (string, error) {
	m, keyID, err := ParseTrusted(ctx, doc, keys)
	if err != nil {
		return "", err
	}
	return d.add(ctx, doc, m, keyID)
}

// AddSigned is Add for what comes from elsewhere: it takes only what one of the keys has signed.
func (d *Dir) AddSigned(ctx context.Context, envelope []byte, keys []*Key) (string, error) {
	m, keyID, err := ParseTrusted(ctx, envelope, keys)
	if err != nil {
		return "", err
	}
	if keyID == "" {
		return "", ErrUntrustedKey
	}
	return d.add(ctx, envelope, m, keyID)
}

func (d *Dir) add(ctx context.Context, doc []byte, m *measure.Measurement, keyID string) (string, error) {
	entries, err := d.Entries(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Measurement != nil && contradict(e.Measurement, m) {
			return "", fmt.Errorf("it contradicts %s, which is of the same image, layout and format version and has other "+
				"volumes: find out which is wrong, and remove that file if it is the one", e.Path)
		}
	}
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(d.path, fileName(m, keyID))
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, append(bytes.TrimSpace(doc), '\n')) {
		return path, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, volume.WriteFile(path, func(f *os.File) error {
		_, err := f.Write(append(bytes.TrimSpace(doc), '\n'))
		return err
	})
}

// fileName says of what image, layout and version a measurement is, and by whom.
func fileName(m *measure.Measurement, keyID string) string {
	name := fmt.Sprintf("%s-%s-%d", strings.TrimPrefix(m.ConfigDigest, "sha256:")[:24], m.Layout, m.FormatVersion)
	if keyID != "" {
		name += "-" + keyID[:16]
	}
	return name + ".json"
}

// contradict says whether two measurements cannot both be right. Names and blobs may differ: one image can be in many
// places, compressed in many ways.
func contradict(a, b *measure.Measurement) bool {
	if a.ConfigDigest != b.ConfigDigest || a.Layout != b.Layout || a.FormatVersion != b.FormatVersion {
		return false
	}
	return !reflect.DeepEqual(volumesOf(a), volumesOf(b))
}

func volumesOf(m *measure.Measurement) (volumes []measure.Volume) {
	for _, l := range m.Layers {
		volumes = append(volumes, l.Volume)
	}
	if m.ImageVolume != nil {
		volumes = append(volumes, *m.ImageVolume)
	}
	return volumes
}
