package oci

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

const (
	// maxState and maxConfig bound what is read of a container's state and configuration.
	maxState  = 4 << 20
	maxConfig = 16 << 20
)

// Guard reads a container's state (specs.State, JSON) as an OCI runtime hands it to its hooks. It returns an error if
// the container asks for volumes and does not get them.
func Guard(state io.Reader) error {
	s, err := readState(state)
	if err != nil {
		return err
	}
	annotations, err := readAnnotations(s.Bundle)
	if err != nil {
		return err
	}
	asked, err := demand(annotations)
	if err != nil || asked == "" {
		return err
	}
	if err := hooks.ThroughShim(s.Bundle); err != nil {
		return fmt.Errorf("container %s asks for mode %s, but its runtime is not crio-erofs's shim (%w): it would get a "+
			"directory of the host instead; use a RuntimeClass whose handler has the shim as runtime_path, or remove "+
			"the annotation %s", s.ID, asked, err, kata.AnnotationRequest)
	}
	if mode := kata.Mode(annotations[kata.AnnotationMode]); !mode.Satisfies(asked) {
		return fmt.Errorf("container %s asks for mode %s and has mode %q: is the NRI plugin crio-erofs-hook running?",
			s.ID, asked, mode)
	}
	return nil
}

func readState(r io.Reader) (*specs.State, error) {
	b, err := safefile.ReadAtMost(r, maxState)
	if err != nil {
		return nil, fmt.Errorf("container's state on standard input: %w", err)
	}
	s := &specs.State{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("container's state on standard input: %w", err)
	}
	if !filepath.IsAbs(s.Bundle) {
		return nil, fmt.Errorf("container's state on standard input: bundle %q is not an absolute path", s.Bundle)
	}
	return s, nil
}

// readAnnotations takes them from the bundle's configuration: runtimes need not repeat them in the state.
func readAnnotations(bundle string) (map[string]string, error) {
	path := filepath.Join(bundle, "config.json")
	b, err := safefile.Read(path, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("container's configuration: %w", err)
	}
	var config struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, fmt.Errorf("container's configuration %s: %w", path, err)
	}
	return config.Annotations, nil
}

// demand returns the mode with volumes that a container asks for, by its pod's request or by what the NRI plugin chose;
// empty if it asks for none.
func demand(annotations map[string]string) (kata.Mode, error) {
	for _, key := range []string{kata.AnnotationRequest, kata.AnnotationMode} {
		value := annotations[key]
		if value == "" {
			continue
		}
		mode, err := kata.ParseMode(value)
		if err != nil {
			return "", fmt.Errorf("annotation %s: %w", key, err)
		}
		if modes.HasVolumes(mode) || key == kata.AnnotationRequest && mode == kata.ModeGuestPull {
			return mode, nil
		}
	}
	return "", nil
}
