//go:build !linux

package target

import (
	"errors"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
)

func findStored(_ *nodestore.Roots, arg string) (*Target, error) {
	return nil, notStored(arg, errors.New("stores are on nodes, which run Linux"))
}
