package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/crio-erofs/crio-erofs/driver/measure"
)

// maxEnvelopeSize bounds what is read of an envelope: base64 of a statement, and some signatures.
const maxEnvelopeSize = 2 * measure.MaxSize

// ErrUntrustedKey is matched by the error for an envelope that none of the keys has signed.
var ErrUntrustedKey = errors.New("no signature of a trusted key")

// Sign returns a statement in an envelope.
func Sign(ctx context.Context, s *Statement, key *PrivateKey) ([]byte, error) {
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	signer, err := dsse.NewEnvelopeSigner(key)
	if err != nil {
		return nil, err
	}
	e, err := signer.SignPayload(ctx, PayloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return json.Marshal(e)
}

// IsEnvelope says whether JSON is to be read as an envelope: whether it has any key of one, in any case, which is how
// encoding/json finds them. The values do not count. An envelope whose signature is good must never be read as anything
// else, even if somebody has added keys: a measurement counts without a signature.
func IsEnvelope(b []byte) bool {
	var keys map[string]json.RawMessage
	if json.Unmarshal(b, &keys) != nil {
		return false
	}
	for key := range keys {
		for _, ours := range []string{"payloadType", "payload", "signatures"} {
			if strings.EqualFold(key, ours) {
				return true
			}
		}
	}
	return false
}

// Open returns the statement in an envelope and the ID of the key that has signed it, which must be one of keys.
func Open(ctx context.Context, b []byte, keys []*Key) (_ *Statement, keyID string, err error) {
	if len(b) > maxEnvelopeSize {
		return nil, "", fmt.Errorf("envelope: larger than %d bytes", maxEnvelopeSize)
	}
	e := &dsse.Envelope{}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, "", fmt.Errorf("envelope: %w", err)
	}
	if e.PayloadType != PayloadType {
		return nil, "", fmt.Errorf("envelope: payload of type %q, not %s", e.PayloadType, PayloadType)
	}
	key := signerOf(ctx, e, keys)
	if key == nil {
		return nil, "", fmt.Errorf("envelope: %w", ErrUntrustedKey)
	}
	payload, err := e.DecodeB64Payload() // as the verifier decodes it
	if err != nil {
		return nil, "", fmt.Errorf("envelope: payload: %w", err)
	}
	s, err := ParseStatement(payload)
	return s, key.ID, err
}

// signerOf returns the first key that has signed the envelope. The key IDs of the signatures are not looked at: they are
// unauthenticated, and other programs make them in other ways.
func signerOf(ctx context.Context, e *dsse.Envelope, keys []*Key) *Key {
	anonymous := *e
	anonymous.Signatures = nil
	for _, s := range e.Signatures {
		anonymous.Signatures = append(anonymous.Signatures, dsse.Signature{Sig: s.Sig})
	}
	for _, k := range keys {
		verifier, err := dsse.NewEnvelopeVerifier(k)
		if err != nil {
			continue
		}
		if _, err := verifier.Verify(ctx, &anonymous); err == nil {
			return k
		}
	}
	return nil
}
