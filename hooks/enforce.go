package hooks

import (
	"context"

	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// AnnotationImageRef is where CRI-O says, on every container, which image it is of: by the image's id in the store. CRI-O
// writes it over whatever a pod's annotations hold there.
const AnnotationImageRef = "io.kubernetes.cri-o.ImageRef"

// Enforce holds a container that Annotate has decided about against what the node trusts, if its handler's configuration
// says so (enforce). An error means that it must not be created.
func Enforce(ctx context.Context, dir *trust.Dir, a *Adjustment, c Container) error {
	if a.Mode == "" {
		return nil
	}
	return Refuse(ReasonTrust, dir.Enforce(ctx, &a.Handler, a.Manifest, a.Mode, c.Annotations[AnnotationImageRef]))
}
