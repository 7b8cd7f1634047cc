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

// NewManifest makes the manifest of an artifact that refers to an image's manifest and has this layer. Its
// configuration has the artifact's type as media type: registries from before OCI 1.1, and who lists for them, go by that.
func NewManifest(m *measure.Measurement, layer imagespec.Descriptor) ([]byte, error) {
	if m.ManifestSize == 0 {
		return nil, fmt.Errorf("image %s has no manifest to refer to: measure it in a registry or an OCI layout", m.Image)
	}
	annotations := map[string]string{AnnotationPredicateType: trust.PredicateType}
	if m.ImageVolume != nil {
		annotations[AnnotationRootHash] = m.ImageVolume.Verity.RootHash
	}
	return json.Marshal(imagespec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    imagespec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       describe(ArtifactType, emptyConfig),
		Layers:       []imagespec.Descriptor{layer},
		Subject: &imagespec.Descriptor{
			MediaType: m.ManifestType, Digest: digest.Digest(m.ManifestDigest), Size: m.ManifestSize,
		},
		Annotations: annotations,
	})
}

// NewUnsignedManifest makes the manifest of an artifact whose layer is the statement itself, not signed. The statement is
// in the manifest, too (image-spec, "Embedded Content"), so that the manifest is all there is to it. Nobody of ours
// trusts it: it is for whoever signs manifests, or keeps statements where they are vouched for otherwise.
func NewUnsignedManifest(m *measure.Measurement) ([]byte, error) {
	s, err := trust.NewStatement(m)
	if err != nil {
		return nil, err
	}
	statement, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	layer := describe(trust.PayloadType, statement)
	layer.Data = statement
	return NewManifest(m, layer)
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
