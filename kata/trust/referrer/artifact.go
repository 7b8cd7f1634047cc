package referrer

import (
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

const (
	// ArtifactType is that of a manifest whose only layer is a signed measurement.
	ArtifactType = "application/vnd.crio-erofs.measurement.v1"

	// EnvelopeType is the media type of that layer.
	EnvelopeType = "application/vnd.dsse.envelope.v1+json"

	// AnnotationPredicateType says in the manifest what the statement in the envelope is (in-toto/attestation,
	// spec/v1/bundle.md names no key; this is the one that buildkit and cosign use).
	AnnotationPredicateType = "in-toto.io/predicate-type"

	// AnnotationRootHash has the image volume's root hash, for people: it is not signed.
	AnnotationRootHash = "io.katacontainers.erofs.root-hash"
)

// emptyConfig is the configuration of an artifact that has none (image-spec, "Guidance for an Empty Descriptor").
var emptyConfig = []byte("{}")

// NewManifest makes the manifest of an artifact that refers to an image's manifest and has this envelope. Its
// configuration has the artifact's type as media type: registries from before OCI 1.1, and who lists for them, go by that.
func NewManifest(subject imagespec.Descriptor, envelope []byte, m *measure.Measurement) ([]byte, error) {
	annotations := map[string]string{AnnotationPredicateType: trust.PredicateType}
	if m.ImageVolume != nil {
		annotations[AnnotationRootHash] = m.ImageVolume.Verity.RootHash
	}
	return json.Marshal(imagespec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    imagespec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       describe(ArtifactType, emptyConfig),
		Layers:       []imagespec.Descriptor{describe(EnvelopeType, envelope)},
		Subject:      &subject,
		Annotations:  annotations,
	})
}

func describe(mediaType string, b []byte) imagespec.Descriptor {
	return imagespec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// artifact is what go-containerregistry needs to push an artifact.
type artifact struct {
	manifest []byte
	envelope []byte
}

var _ partial.CompressedImageCore = (*artifact)(nil)

func (a *artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (a *artifact) RawManifest() ([]byte, error)        { return a.manifest, nil }
func (a *artifact) RawConfigFile() ([]byte, error)      { return emptyConfig, nil }

func (a *artifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	layer := static.NewLayer(a.envelope, EnvelopeType)
	if have, err := layer.Digest(); err != nil || have != h {
		return nil, fmt.Errorf("[should never happen] layer %s, not %s: %w", h, have, err)
	}
	return layer, nil
}
