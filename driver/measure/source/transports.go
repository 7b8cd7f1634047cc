package source

import (
	"fmt"
	"strings"

	"github.com/containers/image/v5/directory"
	"github.com/containers/image/v5/docker"
	dockerarchive "github.com/containers/image/v5/docker/archive"
	ociarchive "github.com/containers/image/v5/oci/archive"
	ocilayout "github.com/containers/image/v5/oci/layout"
	"github.com/containers/image/v5/types"
)

// transports are containers/image's, those that have layers. Its package alltransports would bring clients of daemons
// and of OpenShift along.
var transports = []types.ImageTransport{
	docker.Transport, ocilayout.Transport, ociarchive.Transport, dockerarchive.Transport, directory.Transport,
}

// synthetic are the transports that make a manifest of their own: its digest is not the image's in any registry.
var synthetic = map[string]bool{dockerarchive.Transport.Name(): true}

// Transports lists the names of the transports that images can be read from.
func Transports() []string {
	names := make([]string, len(transports))
	for i, t := range transports {
		names[i] = t.Name()
	}
	return names
}

// ParseName parses the name of an image with its transport, as skopeo and podman take it.
func ParseName(name string) (types.ImageReference, error) {
	transport, rest, _ := strings.Cut(name, ":")
	for _, t := range transports {
		if t.Name() != transport {
			continue
		}
		ref, err := t.ParseReference(rest)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
		return ref, nil
	}
	return nil, fmt.Errorf("image %s does not start with a transport; put one before it: %s (for a registry docker://%s)",
		name, strings.Join(Transports(), ":, ")+":", name)
}
