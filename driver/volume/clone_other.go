//go:build !linux

package volume

import (
	"errors"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
)

func cloneRange(_, _ *os.File, _ erofs.Extent) error { return errors.ErrUnsupported }

func cannotClone(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

// nextData takes all for data.
func nextData(_ *os.File, from, end int64) (start, stop int64, err error) { return from, end, nil }
