package hooks

import (
	"context"
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// AnnotationImageRef is where CRI-O says, on every container, which image it is of: by the image's id in the store. CRI-O
// writes it over whatever a pod's annotations hold there.
const AnnotationImageRef = "io.kubernetes.cri-o.ImageRef"

// Enforce holds a container that Annotate has decided about against what the node trusts. An error means that it must not
// be created: its handler's configuration says enforce = "require". With "warn" there is a line in the log.
func Enforce(ctx context.Context, dir *trust.Dir, a *Adjustment, c Container) error {
	if a.Mode == "" || a.Handler.Enforce == modes.EnforceOff {
		return nil
	}
	err := dir.Check(ctx, a.Manifest, a.Mode, c.Annotations[AnnotationImageRef])
	if err == nil {
		return nil
	}
	if a.Handler.Enforce == modes.EnforceWarn {
		logrus.WithError(err).WithField("handler", a.Handler.Name).Warn("container is created all the same: enforce = \"warn\"")
		return nil
	}
	return fmt.Errorf("handler %s has enforce = \"require\": %w", a.Handler.Name, err)
}
