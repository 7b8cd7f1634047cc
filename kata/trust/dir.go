package trust

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/safefile"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

const (
	// DirName is the directory, beside the node's configuration file, with what is trusted: *.json, each a measurement
	// or a signed statement in an envelope.
	DirName = "trusted.d"

	// KeysName is the directory, beside the node's configuration file, with the public keys whose signatures count:
	// *.pem, each one key.
	KeysName = "keys.d"
)

// Dir is a node's directory of trusted measurements. Several goroutines may use it. A container is created on the way, so
// it remembers which file is of which image, and no more of a file than that: of each pod a process has a Dir.
type Dir struct {
	path, keysPath string

	mu    sync.Mutex
	index map[string]indexed // by path
}

// Entry is a file of a Dir.
type Entry struct {
	Path        string
	Measurement *measure.Measurement // nil: Problem says why
	KeyID       string               // of the key that has signed it; "": not signed, whoever may write the directory vouches for it
	Problem     error
}

// NewDir returns the trust that is in these two directories. They may be missing: then nothing is trusted.
func NewDir(path, keysPath string) *Dir { return &Dir{path: path, keysPath: keysPath} }

// NextTo returns the trust in the directories beside a configuration file; empty: modes.DefaultPath.
func NextTo(config string) *Dir {
	if config == "" {
		config = modes.DefaultPath
	}
	dir := filepath.Dir(config)
	return NewDir(filepath.Join(dir, DirName), filepath.Join(dir, KeysName))
}

// Path returns where the measurements are.
func (d *Dir) Path() string { return d.path }

// KeysPath returns where the keys are.
func (d *Dir) KeysPath() string { return d.keysPath }

// Keys returns the keys whose signatures count. A file that is no key is an error: whoever put it there relies on it.
func (d *Dir) Keys() (keys []*Key, err error) {
	paths, err := listFiles(d.keysPath, ".pem")
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	for _, path := range paths {
		b, _, err := safefile.ReadOwned(path, maxEnvelopeSize)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		k, err := ParseKey(b)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", path, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Entries returns what there is, by path. A file that cannot be read or is not to be trusted has a Problem.
func (d *Dir) Entries(ctx context.Context) ([]*Entry, error) {
	keys, paths, err := d.list()
	if err != nil {
		return nil, err
	}
	entries := make([]*Entry, len(paths))
	for i, path := range paths {
		entries[i] = readEntry(ctx, path, keys)
	}
	return entries, nil
}

func (d *Dir) list() (keys []*Key, paths []string, err error) {
	if keys, err = d.Keys(); err != nil {
		return nil, nil, err
	}
	if paths, err = listFiles(d.path, ".json"); err != nil {
		return nil, nil, fmt.Errorf("trusted measurements: %w", err)
	}
	return keys, paths, nil
}

func readEntry(ctx context.Context, path string, keys []*Key) *Entry {
	e := &Entry{Path: path}
	b, _, err := safefile.ReadOwned(path, maxEnvelopeSize)
	if err == nil {
		e.Measurement, e.KeyID, err = ParseTrusted(ctx, b, keys)
	}
	if err != nil {
		e.Measurement, e.Problem = nil, err
	}
	return e
}

// ParseTrusted reads what a file of a Dir has: a measurement, or a statement that one of the keys has signed.
func ParseTrusted(ctx context.Context, b []byte, keys []*Key) (m *measure.Measurement, keyID string, err error) {
	if !IsEnvelope(b) {
		m, err = measure.Parse(b)
		return m, "", err
	}
	s, keyID, err := Open(ctx, b, keys)
	if errors.Is(err, ErrUntrustedKey) {
		err = fmt.Errorf("%w: %d keys are configured", err, len(keys))
	}
	if err != nil {
		return nil, "", err
	}
	return s.Predicate, keyID, nil
}
