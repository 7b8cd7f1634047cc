package measure

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// maxDocument bounds a manifest and a configuration (containers/image v5.35, internal/iolimits, has the same).
const maxDocument = 4 << 20

// DiffIDs returns the diffIDs of the layers, lowest first, of the image with this digest: of its manifest, or of its
// configuration, which is also its id in containers/storage. documents are the image's configuration and, if the digest
// is the manifest's, its manifest, in any order; wherever they are from, what does not have the digests that lead to it
// from imageDigest is not looked at.
func DiffIDs(imageDigest string, documents ...[]byte) ([]string, error) {
	if err := checkDigest("image digest", imageDigest); err != nil {
		return nil, err
	}
	doc, err := find(imageDigest, documents)
	if err != nil {
		return nil, err
	}
	var manifest imagespec.Manifest
	if err := json.Unmarshal(doc, &manifest); err != nil {
		return nil, fmt.Errorf("document %s: %w", imageDigest, err)
	}
	layers := -1
	if manifest.Config.Digest != "" {
		if err := checkDigest("digest of the configuration", manifest.Config.Digest.String()); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", imageDigest, err)
		}
		imageDigest, layers = manifest.Config.Digest.String(), len(manifest.Layers)
		if doc, err = find(imageDigest, documents); err != nil {
			return nil, err
		}
	}
	diffIDs, err := diffIDsOf(doc)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", imageDigest, err)
	}
	if layers >= 0 && layers != len(diffIDs) {
		return nil, fmt.Errorf("the manifest has %d layers, its configuration %s has %d", layers, imageDigest, len(diffIDs))
	}
	return diffIDs, nil
}

// find returns the document with this digest.
func find(want string, documents [][]byte) ([]byte, error) {
	for _, doc := range documents {
		if len(doc) <= maxDocument && digest.FromBytes(doc).String() == want {
			return doc, nil
		}
	}
	return nil, fmt.Errorf("none of the %d documents given has the digest %s", len(documents), want)
}

func diffIDsOf(config []byte) ([]string, error) {
	var image imagespec.Image
	if err := json.Unmarshal(config, &image); err != nil {
		return nil, err
	}
	if image.RootFS.Type != "layers" || len(image.RootFS.DiffIDs) == 0 {
		return nil, errors.New("it has no layers: not the configuration of an image; of a list, take the manifest of one platform")
	}
	ids := make([]string, len(image.RootFS.DiffIDs))
	for i, id := range image.RootFS.DiffIDs {
		if err := checkDigest("diffID", id.String()); err != nil {
			return nil, err
		}
		ids[i] = id.String()
	}
	return ids, nil
}

// TarfsStack returns the diffIDs of an image's volumes of layout tarfs, lowest first: each once, as the topmost layer that
// has it (volume.Distinct). Volumes of this layout are the same if, and only if, their tars are.
func TarfsStack(diffIDs []string) []string {
	return volume.Distinct(diffIDs, func(id string) string { return id })
}
