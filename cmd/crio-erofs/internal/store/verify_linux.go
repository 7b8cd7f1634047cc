package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containers/storage"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

type storeVerifyOptions struct {
	roots   nodestore.Roots
	config  string
	require bool
	format  output.Format
}

func newStoreVerifyCommand() *cobra.Command {
	var o storeVerifyOptions
	cmd := &cobra.Command{
		Use:   "verify [flags]",
		Short: "Check all volumes of a store, and its images against what the node trusts",
		Long: `verify reads every volume of a node's store and checks it against its root hash and the store's records, and compares the volumes
of every image with the measurements that the node trusts (crio-erofs trust). It takes no lock and changes nothing, so it can run
beside CRI-O, for example after a pull.

The exit status is 1 if a volume is damaged, if an image has other volumes than a trusted measurement says, and with --require also
if an image has no trusted measurement.`,
		Args: cli.ExactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	target.AddFlag(cmd, &o.roots)
	cmd.Flags().StringVar(&o.config, "config", modes.DefaultPath, "the node's configuration file")
	cmd.Flags().BoolVar(&o.require, "require", false, "every image must have a trusted measurement")
	output.AddFlag(cmd, &o.format, storeVerdict{})
	return cmd
}

// storeVerdict is what store verify prints.
type storeVerdict struct {
	OK      bool            `json:"ok"`
	Volumes []volumeVerdict `json:"volumes"`
	Images  []imageVerdict  `json:"images"`
}

type volumeVerdict struct {
	Path     string        `json:"path"`
	Layout   volume.Layout `json:"layout,omitempty"`
	RootHash string        `json:"root_hash,omitempty"`
	OK       bool          `json:"ok"`
	Note     string        `json:"note,omitempty"`
}

// imageState says what there is to an image's trust.
type imageState string

const (
	imageTrusted    imageState = "trusted"
	imageUnmeasured imageState = "not measured"
	imageUntrusted  imageState = "not what was measured"
	imageNoVolumes  imageState = "no volumes"
)

type imageVerdict struct {
	ID    string     `json:"id"`
	Names []string   `json:"names,omitempty"`
	State imageState `json:"state"`
	Note  string     `json:"note,omitempty"`

	// Decrypted is set if the image's layers are encrypted in the registry. In the store they never are.
	Decrypted bool `json:"decrypted,omitempty"`
}

func (o *storeVerifyOptions) run(ctx context.Context, stdout io.Writer) error {
	s, err := nodestore.Open(&o.roots)
	if err != nil {
		return err
	}
	v := storeVerdict{OK: true}
	if v.Volumes, err = verifyVolumes(ctx, s); err != nil {
		return err
	}
	if v.Images, err = o.verifyImages(ctx, s); err != nil {
		return err
	}
	damaged, untrusted := 0, 0
	for _, volume := range v.Volumes {
		if !volume.OK {
			damaged++
		}
	}
	for _, image := range v.Images {
		if image.State == imageUntrusted || o.require && image.State != imageTrusted {
			untrusted++
		}
	}
	v.OK = damaged == 0 && untrusted == 0
	if err := o.format.Print(stdout, v, v.tables()...); err != nil {
		return err
	}
	if !v.OK {
		return fmt.Errorf("%s: %d of %d volumes are not what they should be, %d of %d images not trusted", o.roots.GraphRoot, damaged,
			len(v.Volumes), untrusted, len(v.Images))
	}
	return nil
}

func verifyVolumes(ctx context.Context, s *nodestore.Store) ([]volumeVerdict, error) {
	p := output.NewProgress("checking", 0)
	p.SetTotal(sizeOf(s))
	defer p.End()
	verdicts := []volumeVerdict{}
	for _, r := range s.Stores() {
		found, err := verifyStore(ctx, r, p)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, found...)
	}
	return verdicts, nil
}

func verifyStore(ctx context.Context, r *driver.Reader, p *output.Progress) (verdicts []volumeVerdict, err error) {
	names, err := r.Volumes()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		desc, err := r.VerifyVolume(ctx, name, p.Add)
		if errors.Is(err, fs.ErrNotExist) {
			if _, statErr := os.Lstat(r.Path(name)); errors.Is(statErr, fs.ErrNotExist) {
				continue // removed meanwhile, or not yet there
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v := volumeVerdict{Path: r.Path(name), OK: err == nil}
		if desc != nil {
			v.Layout = desc.Layout
			if desc.Verity != nil {
				v.RootHash = desc.Verity.RootHash
			}
		}
		switch {
		case errors.Is(err, volume.ErrNoVerity):
			v.OK, v.Note = true, "has no hash tree to check it with"
		case err != nil:
			v.Note = err.Error()
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

// sizeOf returns how large volumes are together, as far as the store says.
func sizeOf(s *nodestore.Store) (total int64) {
	for _, r := range s.Stores() {
		names, _ := r.Volumes() // for who checks them to complain
		for _, name := range names {
			if d, err := r.Description(name); err == nil {
				total += d.Size
			}
		}
	}
	return total
}

func (o *storeVerifyOptions) verifyImages(ctx context.Context, s *nodestore.Store) (_ []imageVerdict, err error) {
	dir := trust.NextTo(o.config)
	verdicts := []imageVerdict{}
	for _, img := range s.Images {
		v := imageVerdict{ID: img.ID, Names: img.Names}
		if v.State, err = checkImage(ctx, s, dir, img); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			v.Note = err.Error()
			gone, err := s.Gone(img) // the store was read before all volumes were: minutes ago, perhaps
			if err != nil {
				return nil, err
			}
			if gone {
				continue
			}
		}
		if v.Decrypted, err = wasEncrypted(s.ImageDir(img)); err != nil {
			return nil, err
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

// wasEncrypted looks into the manifests of an image. containers/image keeps the one of the registry beside the one of the
// decrypted layers (image v5.35, storage/storage_dest.go), in files that have their names in base64 (storage v1.58,
// store.go, makeBigDataBaseName).
func wasEncrypted(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "=")
		decoded, err := base64.StdEncoding.DecodeString(name)
		if !ok || err != nil || !strings.HasPrefix(string(decoded), "manifest") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		var m imagespec.Manifest
		if json.Unmarshal(b, &m) == nil && slices.ContainsFunc(m.Layers, func(l imagespec.Descriptor) bool {
			return strings.HasSuffix(l.MediaType, "+encrypted")
		}) {
			return true, nil
		}
	}
	return false, nil
}

func checkImage(ctx context.Context, r *nodestore.Store, dir *trust.Dir, img *storage.Image) (imageState, error) {
	m, err := r.DescribeImage(img.TopLayer)
	if err != nil {
		return imageUntrusted, err
	}
	if m.Refusal != "" {
		return imageNoVolumes, errors.New(m.Refusal)
	}
	checks := []kata.Mode{kata.ModeLayerVerity}
	if m.Image != nil {
		checks = append(checks, kata.ModeImageVerity)
	}
	for _, mode := range checks {
		err := dir.Check(ctx, m, mode, img.ID)
		switch {
		case errors.Is(err, trust.ErrNotMeasured):
			return imageUnmeasured, err
		case err != nil:
			return imageUntrusted, err
		}
	}
	return imageTrusted, nil
}

func (v *storeVerdict) tables() []output.Block {
	volumes := output.NewTable(output.Column{Name: "VOLUME"}, output.Column{Name: "LAYOUT"},
		output.Column{Name: "ROOT HASH", Cut: 16}, output.Column{Name: "STATE"})
	for _, vol := range v.Volumes {
		state := output.Good("ok")
		switch {
		case !vol.OK:
			state = output.Bad(vol.Note)
		case vol.Note != "":
			state = output.Warn(vol.Note)
		}
		volumes.Add(filepath.Base(filepath.Dir(vol.Path)), vol.Layout, vol.RootHash, state)
	}
	images := output.NewTable(output.Column{Name: "IMAGE"}, output.Column{Name: "NAMES", Cut: 20}, output.Column{Name: "STATE"})
	for _, img := range v.Images {
		images.Add(nodestore.ShortID(img.ID), strings.Join(img.Names, ", "), img.stateText())
	}
	return []output.Block{volumes, images}
}

// stateText is what people see of an image's state.
func (v *imageVerdict) stateText() any {
	text := string(v.State)
	if v.Note != "" {
		text += ": " + v.Note
	}
	if v.Decrypted {
		text += " (encrypted in the registry, decrypted here)"
	}
	switch v.State {
	case imageTrusted:
		return output.Good(text)
	case imageUntrusted:
		return output.Bad(text)
	}
	return output.Warn(text)
}
