// Package env knows where tests and demo find their things: the repository, what was built, the cache, a registry.
package env

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Root returns the top folder of the repository that the working directory is in. "go test" and "go run" both start
// programs somewhere inside it.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for start := dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "contrib", "crio", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a clone of crio-erofs: change into it", start)
		}
	}
}

// Bin returns the path of a program that make builds. The error matches os.ErrNotExist and says what to run if it was
// not built yet.
func Bin(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: run 'make build crio' first", err)
	} else if err != nil {
		return "", err
	}
	return path, nil
}

// Cache returns the folder for what is slow to make and may be deleted at any time: .cache in the repository, or
// where CRIO_EROFS_CACHE says.
func Cache() (string, error) {
	dir := os.Getenv("CRIO_EROFS_CACHE")
	if dir == "" {
		root, err := Root()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, ".cache")
	}
	return dir, os.MkdirAll(dir, 0o755)
}
