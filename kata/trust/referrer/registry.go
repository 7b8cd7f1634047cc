package referrer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/safefile"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// Bounds on what is read of a registry, whose content is not trusted.
const (
	maxReferrers    = 100
	maxManifestSize = 1 << 20
	maxEnvelopeSize = 2 * measure.MaxSize
)

// Repository is a registry's repository, with its mirrors.
type Repository struct {
	push *place
	pull []*place // in the order in which they are asked
}

// NewRepository returns a repository by its name with host, such as "quay.io/org/app", whatever the system's
// configuration says about it. insecure allows plain HTTP. Open has the system's configuration.
func NewRepository(repository string, insecure bool) (*Repository, error) {
	p, err := newPlace(repository, insecure, remote.DefaultTransport)
	if err != nil {
		return nil, err
	}
	return &Repository{push: p, pull: []*place{p}}, nil
}

// Push stores an envelope as a referrer of the image's manifest, and returns the name of what it has stored.
func (r *Repository) Push(ctx context.Context, envelope []byte, m *measure.Measurement) (string, error) {
	p := r.push
	if _, err := remote.Head(p.name.Digest(m.ManifestDigest), p.options(ctx)...); err != nil {
		return "", fmt.Errorf("manifest of the image: %w", err)
	}
	manifest, err := NewManifest(m, describe(EnvelopeType, envelope))
	if err != nil {
		return "", err
	}
	img, err := partial.CompressedToImage(&artifact{manifest: manifest, envelope: envelope})
	if err != nil {
		return "", err
	}
	ref := p.name.Digest(digest.FromBytes(manifest).String())
	if err := remote.Write(ref, img, p.options(ctx)...); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	return ref.String(), nil
}

// Found is a referrer with a signed measurement of the image.
type Found struct {
	Name      string // of the referrer, with its digest
	Envelope  []byte
	KeyID     string
	Statement *trust.Statement
}

// Find returns the measurements of the image with this manifest that one of the keys has signed, of the first place,
// mirror or registry, that has any. ignored says, for each referrer of our type that does not count, and for each mirror
// that does not answer, why.
func (r *Repository) Find(ctx context.Context, manifestDigest string, keys []*trust.Key) (found []*Found, ignored []error, err error) {
	for _, p := range r.pull {
		var more []error
		found, more, err = p.find(ctx, manifestDigest, keys)
		ignored = append(ignored, more...)
		if len(found) > 0 {
			return found, ignored, nil
		}
		if err != nil {
			err = fmt.Errorf("referrers of %s@%s: %w", p.name, manifestDigest, err)
			ignored = append(ignored, err)
		}
	}
	if err != nil { // of the last, the registry itself
		return nil, ignored[:len(ignored)-1], err
	}
	return nil, ignored, nil
}

func (p *place) find(ctx context.Context, manifestDigest string, keys []*trust.Key) (found []*Found, ignored []error, err error) {
	subject, err := digest.Parse(manifestDigest)
	if err != nil {
		return nil, nil, err
	}
	list, err := p.list(ctx, subject)
	if err != nil {
		return nil, nil, err
	}
	for i, d := range list {
		if i == maxReferrers {
			ignored = append(ignored, fmt.Errorf("%s has %d referrers, of which %d were looked at", p.name, len(list), i))
			break
		}
		f, err := p.read(ctx, d, manifestDigest, keys)
		switch {
		case errors.Is(err, errOtherType):
		case err != nil:
			ignored = append(ignored, fmt.Errorf("%s@%s: %w", p.name, d.Digest, err))
		default:
			found = append(found, f)
		}
	}
	return found, ignored, nil
}

var errOtherType = errors.New("not a measurement")

// read fetches a referrer and checks all of it.
func (p *place) read(ctx context.Context, d imagespec.Descriptor, manifestDigest string, keys []*trust.Key) (*Found, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	if d.Size > maxManifestSize {
		return nil, fmt.Errorf("a manifest of %d bytes", d.Size)
	}
	got, err := remote.Get(p.name.Digest(d.Digest.String()), p.options(ctx)...) // holds it against the digest
	if err != nil {
		return nil, err
	}
	var m imagespec.Manifest
	if err := json.Unmarshal(got.Manifest, &m); err != nil {
		return nil, err
	}
	if m.ArtifactType != ArtifactType && m.Config.MediaType != ArtifactType {
		return nil, errOtherType
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != EnvelopeType || m.Layers[0].Size > maxEnvelopeSize {
		return nil, fmt.Errorf("its layers are not one envelope (%s)", EnvelopeType)
	}
	envelope, err := p.blob(ctx, m.Layers[0].Digest)
	if err != nil {
		return nil, err
	}
	s, keyID, err := trust.Open(ctx, envelope, keys)
	if err != nil {
		return nil, err
	}
	// The registry chose what to offer for this image; the statement says what it is of.
	if s.Predicate.ManifestDigest != manifestDigest {
		return nil, fmt.Errorf("it is of the image with manifest %s", s.Predicate.ManifestDigest)
	}
	return &Found{Name: p.name.Digest(d.Digest.String()).String(), Envelope: envelope, KeyID: keyID, Statement: s}, nil
}

func (p *place) blob(ctx context.Context, d digest.Digest) (b []byte, err error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	layer, err := remote.Layer(p.name.Digest(d.String()), p.options(ctx)...)
	if err != nil {
		return nil, err
	}
	rc, err := layer.Compressed() // holds it against the digest
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	if b, err = safefile.ReadAtMost(rc, maxEnvelopeSize); err != nil {
		err = fmt.Errorf("envelope: %w", err)
	}
	return b, err
}
