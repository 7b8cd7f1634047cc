package referrer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
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

// Repository is a registry's repository.
type Repository struct {
	name    name.Repository
	options []remote.Option
}

// NewRepository returns a repository by its name with host, such as "quay.io/org/app". insecure allows plain HTTP.
func NewRepository(repository string, insecure bool, options ...remote.Option) (*Repository, error) {
	var nameOptions []name.Option
	if insecure {
		nameOptions = append(nameOptions, name.Insecure)
	}
	n, err := name.NewRepository(repository, nameOptions...)
	if err != nil {
		return nil, err
	}
	return &Repository{name: n, options: options}, nil
}

func (r *Repository) with(ctx context.Context) []remote.Option {
	return append([]remote.Option{remote.WithContext(ctx)}, r.options...)
}

// Push stores an envelope as a referrer of the image's manifest, and returns the name of what it has stored.
func (r *Repository) Push(ctx context.Context, envelope []byte, m *measure.Measurement) (string, error) {
	head, err := remote.Head(r.name.Digest(m.ManifestDigest), r.with(ctx)...)
	if err != nil {
		return "", fmt.Errorf("manifest of the image: %w", err)
	}
	subject := imagespec.Descriptor{MediaType: string(head.MediaType), Digest: digest.Digest(m.ManifestDigest), Size: head.Size}
	manifest, err := NewManifest(subject, envelope, m)
	if err != nil {
		return "", err
	}
	img, err := partial.CompressedToImage(&artifact{manifest: manifest, envelope: envelope})
	if err != nil {
		return "", err
	}
	ref := r.name.Digest(digest.FromBytes(manifest).String())
	if err := remote.Write(ref, img, r.with(ctx)...); err != nil {
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

// Find returns the measurements of the image with this manifest that one of the keys has signed. ignored says, for each
// referrer of our type that does not count, why.
func (r *Repository) Find(ctx context.Context, manifestDigest string, keys []*trust.Key) (found []*Found, ignored []error, err error) {
	index, err := remote.Referrers(r.name.Digest(manifestDigest), r.with(ctx)...)
	if err != nil {
		return nil, nil, fmt.Errorf("referrers of %s@%s: %w", r.name, manifestDigest, err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, nil, fmt.Errorf("referrers of %s@%s: %w", r.name, manifestDigest, err)
	}
	candidates := 0
	for _, d := range list.Manifests {
		if d.ArtifactType != "" && d.ArtifactType != ArtifactType {
			continue
		}
		if candidates++; candidates > maxReferrers {
			ignored = append(ignored, fmt.Errorf("more than %d referrers: the others are not looked at", maxReferrers))
			break
		}
		f, err := r.read(ctx, d, manifestDigest, keys)
		switch {
		case errors.Is(err, errOtherType):
		case err != nil:
			ignored = append(ignored, fmt.Errorf("%s@%s: %w", r.name, d.Digest, err))
		default:
			found = append(found, f)
		}
	}
	return found, ignored, nil
}

var errOtherType = errors.New("not a measurement")

// read fetches a referrer and checks all of it.
func (r *Repository) read(ctx context.Context, d v1.Descriptor, manifestDigest string, keys []*trust.Key) (*Found, error) {
	if d.Size > maxManifestSize {
		return nil, fmt.Errorf("a manifest of %d bytes", d.Size)
	}
	got, err := remote.Get(r.name.Digest(d.Digest.String()), r.with(ctx)...) // holds it against the digest
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
	envelope, err := r.blob(ctx, m.Layers[0].Digest)
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
	return &Found{Name: r.name.Digest(d.Digest.String()).String(), Envelope: envelope, KeyID: keyID, Statement: s}, nil
}

func (r *Repository) blob(ctx context.Context, d digest.Digest) (b []byte, err error) {
	layer, err := remote.Layer(r.name.Digest(d.String()), r.with(ctx)...)
	if err != nil {
		return nil, err
	}
	rc, err := layer.Compressed() // holds it against the digest
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	b, err = safefile.ReadAtMost(rc, maxEnvelopeSize)
	if err != nil {
		err = fmt.Errorf("envelope: %w", err)
	}
	return b, err
}
