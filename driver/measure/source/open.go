package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/crio-erofs/crio-erofs/driver/measure"
)

// ErrEncrypted is matched by the error for an image with encrypted layers.
var ErrEncrypted = errors.New("encrypted layers")

// Options say how to find an image and which of several it is.
type Options struct {
	// System says how to talk to registries; nil: as containers/image is configured on this machine.
	System *types.SystemContext

	// Platform is os/architecture[/variant] of the image to take from a list; empty: linux on this machine's processor.
	Platform string

	// All takes every image of a list.
	All bool

	// Progress, if not nil, is told of n more bytes read, before they are uncompressed. Several goroutines may call it.
	Progress func(n int64)
}

// Source is where images come from: a name can be of several, one for each platform.
type Source struct {
	Images []*measure.Image
	Size   int64 // of all layers' blobs, as far as that is known

	src  types.ImageSource
	opts Options
}

// Open finds the image, or images, of a name with its transport. Close must be called.
func Open(ctx context.Context, name string, opts Options) (_ *Source, err error) {
	ref, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	sys := types.SystemContext{}
	if opts.System != nil {
		sys = *opts.System
	}
	if err := choosePlatform(&sys, opts.Platform); err != nil {
		return nil, err
	}
	opts.System = &sys
	src, err := ref.NewImageSource(ctx, &sys)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	s := &Source{src: src, opts: opts}
	defer func() {
		if err != nil {
			err = fmt.Errorf("image %s: %w", name, errors.Join(err, src.Close()))
		}
	}()
	instances, err := s.instances(ctx)
	if err != nil {
		return nil, err
	}
	for _, instance := range instances {
		img, err := s.image(ctx, name, instance)
		if err != nil {
			return nil, err
		}
		s.Images = append(s.Images, img)
	}
	return s, nil
}

// Close frees what reading the images takes.
func (s *Source) Close() error { return s.src.Close() }

func choosePlatform(sys *types.SystemContext, platform string) error {
	sys.OSChoice = "linux" // whatever this machine runs
	if platform == "" {
		return nil
	}
	parts := strings.Split(platform, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return fmt.Errorf("platform %q is not os/architecture or os/architecture/variant", platform)
	}
	sys.OSChoice, sys.ArchitectureChoice = parts[0], parts[1]
	if len(parts) == 3 {
		sys.VariantChoice = parts[2]
	}
	return nil
}

// instances returns the digests of the wanted images of a list, or nil alone if there is no list.
func (s *Source) instances(ctx context.Context) ([]*digest.Digest, error) {
	blob, mediaType, err := image.UnparsedInstance(s.src, nil).Manifest(ctx)
	if err != nil {
		return nil, err
	}
	if !manifest.MIMETypeIsMultiImage(mediaType) {
		return []*digest.Digest{nil}, nil
	}
	if s.opts.All {
		return allInstances(blob)
	}
	list, err := manifest.ListFromBlob(blob, mediaType)
	if err != nil {
		return nil, err
	}
	d, err := list.ChooseInstance(s.opts.System)
	if err != nil {
		return nil, err
	}
	return []*digest.Digest{&d}, nil
}

// allInstances returns the images of a list, OCI's or Docker's, that can run somewhere: builders also put attestations
// into lists, with the platform unknown/unknown.
func allInstances(blob []byte) ([]*digest.Digest, error) {
	var list struct {
		Manifests []struct {
			Digest   digest.Digest `json:"digest"`
			Platform *struct {
				OS string `json:"os"`
			} `json:"platform"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(blob, &list); err != nil {
		return nil, fmt.Errorf("list of images: %w", err)
	}
	var instances []*digest.Digest
	for i := range list.Manifests {
		m := &list.Manifests[i]
		if m.Platform == nil || m.Platform.OS != "unknown" {
			instances = append(instances, &m.Digest)
		}
	}
	if len(instances) == 0 {
		return nil, errors.New("the list has no images")
	}
	return instances, nil
}

// image describes an image, whose manifest and configuration containers/image holds against their digests.
func (s *Source) image(ctx context.Context, name string, instance *digest.Digest) (*measure.Image, error) {
	unparsed := image.UnparsedInstance(s.src, instance)
	img, err := image.FromUnparsedImage(ctx, s.opts.System, unparsed)
	if err != nil {
		return nil, err
	}
	blob, mediaType, err := img.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	out := &measure.Image{Name: name, ConfigDigest: img.ConfigInfo().Digest.String(), OneByOne: !s.src.HasThreadSafeGetBlob()}
	if out.ConfigDigest == "" {
		return nil, fmt.Errorf("its manifest, of type %s, has no configuration, so its layers' diffIDs are unknown: "+
			"convert it with skopeo copy --format oci", mediaType)
	}
	if !synthetic[s.src.Reference().Transport().Name()] {
		d, err := manifest.Digest(blob)
		if err != nil {
			return nil, err
		}
		out.ManifestDigest, out.ManifestType, out.ManifestSize = d.String(), manifest.GuessMIMEType(blob), int64(len(blob))
	}
	config, err := img.OCIConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", out.ConfigDigest, err)
	}
	out.Platform = strings.TrimSuffix(config.OS+"/"+config.Architecture+"/"+config.Variant, "/")
	if err := s.checkPlatform(out.Platform); err != nil {
		return nil, err
	}
	infos, err := s.src.LayerInfosForCopy(ctx, instance)
	if err != nil {
		return nil, err
	}
	manifestInfos := img.LayerInfos()
	if infos == nil {
		infos = manifestInfos
	}
	if len(infos) != len(config.RootFS.DiffIDs) || len(infos) != len(manifestInfos) {
		return nil, fmt.Errorf("its manifest has %d layers, its configuration %s has %d: it is not an image of containers",
			len(manifestInfos), out.ConfigDigest, len(config.RootFS.DiffIDs))
	}
	for i, info := range infos {
		if strings.HasSuffix(manifestInfos[i].MediaType, "+encrypted") {
			return nil, fmt.Errorf("layer %d (%s) is of type %s: %w cannot be read here; measure the image before it is "+
				"encrypted, its decrypted layers are the same", i, manifestInfos[i].Digest, manifestInfos[i].MediaType, ErrEncrypted)
		}
		s.Size += max(0, info.Size)
		out.Layers = append(out.Layers, measure.Blob{
			Digest: manifestInfos[i].Digest.String(),
			DiffID: config.RootFS.DiffIDs[i].String(),
			Open:   func(ctx context.Context) (io.ReadCloser, error) { return s.openBlob(ctx, info) },
		})
	}
	return out, nil
}

// checkPlatform holds a single image against the platform that was asked for.
func (s *Source) checkPlatform(have string) error {
	want := s.opts.Platform
	if want == "" || s.opts.All || have == want || strings.HasPrefix(have, want+"/") {
		return nil
	}
	return fmt.Errorf("it is for %s, not for %s", have, want)
}
