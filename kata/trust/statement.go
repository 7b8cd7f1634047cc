package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/measure"
)

const (
	// StatementType is the type of an in-toto Statement
	// (in-toto/attestation, spec/v1/statement.md).
	StatementType = "https://in-toto.io/Statement/v1"

	// PredicateType says that a statement's predicate is a measure.Measurement.
	PredicateType = "https://github.com/crio-erofs/crio-erofs/measurement/v1"

	// PayloadType says that an envelope's payload is an in-toto statement (in-toto/attestation, spec/v1/envelope.md).
	PayloadType = "application/vnd.in-toto+json"
)

// Statement is an in-toto Statement that an image has been measured.
type Statement struct {
	Type          string               `json:"_type"`
	Subject       []Subject            `json:"subject"`
	PredicateType string               `json:"predicateType"`
	Predicate     *measure.Measurement `json:"predicate"`
}

// Subject is what a statement is about: an image's manifest.
type Subject struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest"`
}

// NewStatement makes a statement of a measurement.
func NewStatement(m *measure.Measurement) (*Statement, error) {
	if m.ManifestDigest == "" {
		return nil, fmt.Errorf("image %s has no manifest digest, which a statement is about: measure it in a registry or an "+
			"OCI layout", m.Image)
	}
	return &Statement{
		Type:          StatementType,
		Subject:       []Subject{{Name: m.Image, Digest: map[string]string{"sha256": strings.TrimPrefix(m.ManifestDigest, "sha256:")}}},
		PredicateType: PredicateType,
		Predicate:     m,
	}, nil
}

// ParseStatement decodes and checks a statement: its measurement must be of the manifest that it is about.
func ParseStatement(b []byte) (*Statement, error) {
	if len(b) > measure.MaxSize {
		return nil, fmt.Errorf("statement: larger than %d bytes", measure.MaxSize)
	}
	s := &Statement{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	switch {
	case s.Type != StatementType:
		return nil, fmt.Errorf("statement: type %q, not %s", s.Type, StatementType)
	case s.PredicateType != PredicateType:
		return nil, fmt.Errorf("statement: predicate type %q, not %s", s.PredicateType, PredicateType)
	case s.Predicate == nil:
		return nil, errors.New("statement: no predicate")
	}
	if err := s.Predicate.Check(); err != nil {
		return nil, fmt.Errorf("statement: measurement: %w", err)
	}
	if len(s.Subject) != 1 || s.Predicate.ManifestDigest != "sha256:"+s.Subject[0].Digest["sha256"] {
		return nil, fmt.Errorf("statement: its subject %v is not the manifest %s that was measured", s.Subject,
			s.Predicate.ManifestDigest)
	}
	return s, nil
}
