package trust_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// confuse makes one document of an envelope whose signature is good and a measurement that nobody has signed. Of keys
// that are there twice the last counts for encoding/json, and null leaves a string as it was.
func confuse(t *testing.T, envelope, unsigned []byte, payloadType string) []byte {
	t.Helper()
	doc := strings.TrimSuffix(string(envelope), "}") + payloadType + "," + strings.TrimPrefix(string(unsigned), "{")
	if !json.Valid([]byte(doc)) {
		t.Fatalf("not JSON: %s", doc)
	}
	return []byte(doc)
}

// TestEnvelopeIsNoMeasurement: a registry cannot add keys to a signed measurement and so bring in another one, unsigned.
func TestEnvelopeIsNoMeasurement(t *testing.T) {
	key := newKeys(t)["ed25519"]
	keys := []*trust.Key{&key.Key}
	evil := measurement(2)
	unsigned, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	for _, payloadType := range []string{"", `,"payloadType":null`, `,"PayloadType":null`, `,"payloadtype":null`} {
		doc := confuse(t, sign(t, measurement(1), key), unsigned, payloadType)
		if _, _, err := trust.Open(t.Context(), doc, keys); err != nil {
			t.Fatalf("%s: the signature is not good, so this shows nothing: %v", payloadType, err)
		}
		dir := t.TempDir()
		d := trust.NewDir(filepath.Join(dir, trust.DirName), filepath.Join(dir, trust.KeysName))
		for what, add := range map[string]func() (string, error){
			"Add":       func() (string, error) { return d.Add(t.Context(), doc, keys) },
			"AddSigned": func() (string, error) { return d.AddSigned(t.Context(), doc, keys) },
		} {
			if _, err := add(); err != nil {
				continue // refused is good, too
			}
			if m, id, err := trust.ParseTrusted(t.Context(), doc, keys); err != nil || id != key.ID ||
				m.ConfigDigest == evil.ConfigDigest {
				t.Errorf("%s with %s trusts what is not signed: %+v, key %q, %v", what, payloadType, m, id, err)
			}
		}
	}
	for _, doc := range []string{`{"payloadType":null}`, `{"PAYLOAD":1}`, `{"\u017fignatures":[]}`} {
		if !trust.IsEnvelope([]byte(doc)) {
			t.Errorf("%s could be read as a measurement", doc)
		}
	}
}

// TestAddSigned: what nobody has signed is not taken from elsewhere.
func TestAddSigned(t *testing.T) {
	key := newKeys(t)["ecdsa"]
	dir := t.TempDir()
	d := trust.NewDir(filepath.Join(dir, trust.DirName), filepath.Join(dir, trust.KeysName))
	unsigned, err := json.Marshal(measurement(1))
	if err != nil {
		t.Fatal(err)
	}
	if path, err := d.AddSigned(t.Context(), unsigned, []*trust.Key{&key.Key}); err == nil {
		t.Errorf("%s is not signed", path)
	}
	if _, err := d.AddSigned(t.Context(), sign(t, measurement(1), key), []*trust.Key{&key.Key}); err != nil {
		t.Error(err)
	}
}
