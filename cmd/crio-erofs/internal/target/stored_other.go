//go:build !linux

package target

import "errors"

func findStored(_, arg string) (*Target, error) {
	return nil, notStored(arg, errors.New("stores are on nodes, which run Linux"))
}
