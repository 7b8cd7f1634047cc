package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/measure/source"
	"github.com/crio-erofs/crio-erofs/kata/trust"
	"github.com/crio-erofs/crio-erofs/kata/trust/referrer"
)

type verifyImageOptions struct {
	imageOptions
	keyPaths    []string
	noRecompute bool
	format      output.Format
}

func newVerifyImageCommand() *cobra.Command {
	var o verifyImageOptions
	cmd := &cobra.Command{
		Use:   "verify-image [flags] --key FILE docker://IMAGE",
		Short: "Find an image's signed measurements, check and recompute them",
		Long: `verify-image finds the measurements that attest has stored with an image, checks their signatures, and measures the image again:
what is signed must be what comes out. It fails unless there is a good measurement with the signature of one of the keys, for every
image of a list with --all, and if a measurement with a good signature is wrong. One of another format version than this program's
is not computed again; it needs one of this version beside it.`,
		Args: cli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	o.addFlags(cmd)
	cmd.Flags().Lookup("layout").Hidden = true // the measurements say it
	cmd.Flags().StringArrayVar(&o.keyPaths, "key", nil, "file with a public key; may be given several times")
	cmd.Flags().BoolVar(&o.noRecompute, "no-recompute", false, "believe what is signed")
	output.AddFlag(cmd, &o.format, verifiedImage{})
	return cmd
}

// verifiedImage is what verify-image prints of a measurement with a good signature.
type verifiedImage struct {
	Image       string               `json:"image"` // as it was asked for
	Referrer    string               `json:"referrer"`
	KeyID       string               `json:"key_id"`
	Recomputed  bool                 `json:"recomputed"`
	Measurement *measure.Measurement `json:"measurement"`
}

func (o *verifyImageOptions) run(ctx context.Context, stdout io.Writer, image string) error {
	keys, err := readKeys(o.keyPaths)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return cli.Usage(errors.New("--key is missing: a file with the public key that the measurement must be signed with"))
	}
	found, err := o.find(ctx, image, keys)
	if err != nil {
		return err
	}
	var recomputed map[*referrer.Found]bool
	if !o.noRecompute {
		if recomputed, err = o.recompute(ctx, image, found); err != nil {
			return fmt.Errorf("image %s: %w", image, err)
		}
	}
	for _, f := range found {
		v := verifiedImage{Image: image, Referrer: f.Name, KeyID: f.KeyID, Recomputed: recomputed[f], Measurement: f.Statement.Predicate}
		if err := o.print(stdout, &v); err != nil {
			return err
		}
	}
	return nil
}

func (o *verifyImageOptions) print(stdout io.Writer, v *verifiedImage) error {
	recomputed := "equal"
	switch {
	case o.noRecompute:
		recomputed = "not asked for"
	case !v.Recomputed:
		recomputed = fmt.Sprintf("no: of format version %d", v.Measurement.FormatVersion)
	}
	// The name in what is signed is the one that the signer had for the image, and nobody has checked it.
	about := output.Pairs("referrer", v.Referrer, "signed_by", v.KeyID, "signed_name", v.Measurement.Image, "recomputed", recomputed)
	shown := *v.Measurement
	shown.Image = v.Image
	return o.format.Print(stdout, v, append([]output.Block{about}, measureBlocks(&shown)...)...)
}

// find returns the good measurements of an image, at least one for each image that the name is of.
func (o *imageOptions) find(ctx context.Context, image string, keys []*trust.Key) (all []*referrer.Found, err error) {
	repo, err := o.registry.repository(image)
	if err != nil {
		return nil, err
	}
	sys, err := o.registry.system()
	if err != nil {
		return nil, err
	}
	src, err := source.Open(ctx, image, source.Options{System: sys, Platform: o.platform, All: o.all})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	for _, img := range src.Images {
		found, ignored, err := repo.Find(ctx, img.ManifestDigest, keys)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", image, err)
		}
		for _, reason := range ignored {
			logrus.Warnf("A measurement of %s (%s) does not count: %v", image, img.Platform, reason)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("image %s (%s): manifest %s has no measurement that one of %d keys has signed; "+
				"make one with crio-erofs attest", image, img.Platform, img.ManifestDigest, len(keys))
		}
		for _, f := range found {
			if f.Statement.Predicate.ConfigDigest != img.ConfigDigest {
				return nil, fmt.Errorf("image %s (%s): %s is of configuration %s, the manifest has %s", image, img.Platform,
					f.Name, f.Statement.Predicate.ConfigDigest, img.ConfigDigest)
			}
		}
		all = append(all, found...)
	}
	return all, nil
}

// recompute measures the image again, once for each layout, and holds what was found against it. It returns which could
// be: those of this program's format version, at least one for each image that there is one of another for.
func (o *verifyImageOptions) recompute(ctx context.Context, image string, found []*referrer.Found) (map[*referrer.Found]bool, error) {
	again, done, manifests := map[string][]*measure.Measurement{}, map[*referrer.Found]bool{}, map[string]bool{}
	for _, f := range found {
		signed := f.Statement.Predicate
		if signed.FormatVersion != signed.Layout.FormatVersion() {
			continue
		}
		layout := string(signed.Layout)
		if again[layout] == nil {
			o.layout = layout
			measured, err := o.measure(ctx, image)
			if err != nil {
				return nil, err
			}
			again[layout] = measured
		}
		if err := compareSigned(signed, again[layout]); err != nil {
			return nil, fmt.Errorf("%s, signed by key %s: %w", f.Name, f.KeyID, err)
		}
		done[f], manifests[signed.ManifestDigest] = true, true
	}
	for _, f := range found {
		if signed := f.Statement.Predicate; !manifests[signed.ManifestDigest] {
			return nil, fmt.Errorf("%s is of format version %d, and this program makes %d: use the release that has it, or "+
				"--no-recompute", f.Name, signed.FormatVersion, signed.Layout.FormatVersion())
		}
	}
	return done, nil
}

// compareSigned wants the signed measurement among those that were made now.
func compareSigned(signed *measure.Measurement, now []*measure.Measurement) error {
	for _, m := range now {
		if m.ManifestDigest != signed.ManifestDigest {
			continue
		}
		named := *m
		named.Image = signed.Image
		if signed.ManifestSize == 0 { // of a release that did not say it
			named.ManifestType, named.ManifestSize = "", 0
		}
		if reflect.DeepEqual(&named, signed) {
			return nil
		}
		return fmt.Errorf("what is signed is wrong: %s", difference(signed, m))
	}
	return fmt.Errorf("the image with manifest %s is no longer there", signed.ManifestDigest)
}

func difference(signed, now *measure.Measurement) string {
	for i, l := range now.Layers {
		if i < len(signed.Layers) && signed.Layers[i] != l {
			return fmt.Sprintf("layer %d has root hash %s, signed was %s", i, l.Verity.RootHash, signed.Layers[i].Verity.RootHash)
		}
	}
	if now.ImageVolume != nil && signed.ImageVolume != nil && *now.ImageVolume != *signed.ImageVolume {
		return fmt.Sprintf("the image volume has root hash %s, signed was %s", now.ImageVolume.Verity.RootHash,
			signed.ImageVolume.Verity.RootHash)
	}
	return fmt.Sprintf("%+v; signed was %+v", now, signed)
}

func readKeys(paths []string) (keys []*trust.Key, err error) {
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		k, err := trust.ParseKey(b)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", path, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}
