package nodestore

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/storage"
)

// ErrNotFound is what errors match that say there is no such image or container.
var ErrNotFound = errors.New("not found")

// FindImage finds an image by a name, with or without what Docker leaves away, by its digest, or by the beginning of its
// id, three digits or more.
func (s *Store) FindImage(name string) (*storage.Image, error) {
	name = strings.TrimPrefix(name, "containers-storage:")
	for _, img := range s.Images {
		if img.ID == name || slices.Contains(img.Names, name) {
			return img, nil
		}
	}
	var found []*storage.Image
	for _, img := range s.Images {
		if slices.ContainsFunc(img.Names, func(full string) bool { return shortFor(name, full) }) ||
			isPrefix(strings.TrimPrefix(name, "sha256:"), img.ID) || hasDigest(img, name) {
			found = append(found, img)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("image %s: %w in %s", name, ErrNotFound, s.GraphRoot)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%q may be %d images (%s and others): give more of its name or id", name, len(found), Label(found[0]))
}

// FindContainer finds a container by its name, or by the beginning of its id, three digits or more.
func (s *Store) FindContainer(name string) (*Container, error) {
	var found []*Container
	for _, c := range s.Containers {
		switch {
		case c.ID == name || slices.Contains(c.Names, name):
			return c, nil
		case isPrefix(name, c.ID):
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("container %s: %w in %s", name, ErrNotFound, s.GraphRoot)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%q is the beginning of %d containers' ids: give more of it", name, len(found))
}

// minPrefix is how much of an id is needed: a word of two letters is a name.
const minPrefix = 3

func isPrefix(prefix, id string) bool {
	return len(prefix) >= minPrefix && strings.HasPrefix(id, prefix)
}

// shortFor says whether a person may mean an image of this full name: the registry, the folders and the tag "latest" can
// be left away, as with podman.
func shortFor(name, full string) bool {
	ref, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return false
	}
	repository, tail := reference.TrimNamed(ref).Name(), strings.TrimPrefix(full, reference.TrimNamed(ref).Name())
	for {
		if name == repository+tail || tail == ":latest" && name == repository {
			return true
		}
		_, rest, ok := strings.Cut(repository, "/")
		if !ok {
			return false
		}
		repository = rest
	}
}

// hasDigest says whether name is an image's digest, with or without a repository before it.
func hasDigest(img *storage.Image, name string) bool {
	_, digest, ok := strings.Cut(name, "@")
	if !ok {
		digest = name
	}
	if strings.HasPrefix(digest, "sha256:") && digest == img.Digest.String() {
		return true
	}
	for key, d := range img.BigDataDigests {
		if strings.HasPrefix(key, storage.ImageDigestManifestBigDataNamePrefix) && d.String() == digest {
			return true
		}
	}
	return false
}

// Label returns what people call an image: its first name, or else the beginning of its id.
func Label(img *storage.Image) string {
	if len(img.Names) > 0 {
		return img.Names[0]
	}
	return ShortID(img.ID)
}

// ShortID is what tables show of an id.
func ShortID(id string) string { return id[:min(12, len(id))] }

// FindVolume returns the path of a volume, by the beginning of its name or by its root hash.
func (s *Store) FindVolume(name string) (string, error) {
	names, err := s.Volumes()
	if err != nil {
		return "", err
	}
	var found []string
	for _, v := range names {
		if isPrefix(name, v) || isPrefix(v, name) {
			found = append(found, v)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("volume %s: %w: %d fit", name, ErrNotFound, len(found))
	}
	return s.Path(found[0]), nil
}
