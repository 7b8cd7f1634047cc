package modes

import "github.com/crio-erofs/crio-erofs/driver/volume"

// CRI-O's own annotations, which it writes over whatever a pod has under these keys (cri-o 1.34,
// internal/factory/container/container.go, SpecAddAnnotations).
const (
	// annotationImageName is a name of the container's image, empty if it has none. Kata's runtimes make a guest pull
	// this one, whatever a volume says (src/runtime/virtcontainers/kata_agent.go).
	annotationImageName = "io.kubernetes.cri-o.ImageName"

	// annotationImageRef is the image's id in the store: the digest of its configuration.
	annotationImageRef = "io.kubernetes.cri-o.ImageRef"
)

// LabelImageReference is the label under which a guest's puller looks for the image's name
// (nydus-snapshotter, pkg/label/label.go).
const LabelImageReference = "containerd.io/snapshot/cri.image-ref"

// Offer is what there is of a container's image.
type Offer struct {
	// Manifest describes the rootfs as volumes; nil if it is not on the erofs storage driver.
	Manifest *volume.Manifest

	// Reference is the name by which a guest can pull the image; empty if there is none.
	Reference string

	// Labels go with the image to whoever pulls it.
	Labels map[string]string
}

// NewOffer returns the offer for a workload container with a rootfs and CRI-O's annotations.
func NewOffer(m *volume.Manifest, annotations map[string]string) Offer {
	o := Offer{Manifest: m, Reference: annotations[annotationImageName], Labels: map[string]string{}}
	if o.Reference != "" {
		o.Labels[LabelImageReference] = o.Reference
	}
	if id := annotations[annotationImageRef]; id != "" {
		o.Labels[annotationImageRef] = id
	}
	return o
}
