//go:build !linux

package inspect

import (
	"context"
	"fmt"
	"io"
)

func (o *inspectOptions) stored(_ context.Context, _ io.Writer, arg string) error {
	return fmt.Errorf("%s is no file, and stores of images and containers are on nodes, which run Linux", arg)
}
