//go:build !linux

package inspect

import (
	"fmt"
	"io"
)

func (o *inspectOptions) stored(_ io.Writer, arg string) error {
	return fmt.Errorf("%s is no file, and stores of images and containers are on nodes, which run Linux", arg)
}
