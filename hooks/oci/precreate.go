package oci

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/runtime-tools/generate"

	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// Precreate reads a container's OCI configuration, decides as for a container of the runtime handler called handler,
// and writes the configuration with the annotations changed. It writes nothing if it returns an error.
func Precreate(ctx context.Context, in io.Reader, out io.Writer, config *modes.Config, dir *trust.Dir, handler string) error {
	g, err := generate.NewFromTemplate(in)
	if err != nil {
		return fmt.Errorf("container's configuration on standard input: %w", err)
	}
	c := hooks.Container{Handler: handler, Annotations: g.Config.Annotations}
	if g.Config.Root != nil {
		c.MountPoint = g.Config.Root.Path
	}
	a, err := hooks.Annotate(config, c)
	if err != nil {
		return err
	}
	if err := hooks.Enforce(ctx, dir, a, c); err != nil {
		return err
	}
	for _, key := range a.Remove {
		g.RemoveAnnotation(key)
	}
	for key, value := range a.Set {
		g.AddAnnotation(key, value)
	}
	return g.Save(out, generate.ExportOptions{})
}
