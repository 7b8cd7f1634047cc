package trust

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// Key is a public key that signatures are verified with.
type Key struct {
	ID     string // sha256 of the key's DER, as openssl pkey -pubin -outform DER | sha256sum
	public crypto.PublicKey
}

var _ dsse.Verifier = (*Key)(nil)

// PrivateKey is a key that signs.
type PrivateKey struct {
	Key
	signer crypto.Signer
}

var _ dsse.SignerVerifier = (*PrivateKey)(nil)

// ParseKey reads a public key, ECDSA P-256 or Ed25519, of a PEM file (PUBLIC KEY). Of a private key it takes the public
// part.
func ParseKey(b []byte) (*Key, error) {
	block, rest := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block; want a public key as openssl pkey -pubout writes it")
	}
	if block.Type != "PUBLIC KEY" {
		private, err := ParsePrivateKey(b)
		if err != nil {
			return nil, err
		}
		return &private.Key, nil
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("more than one key; want each in a file of its own, or the others would not count")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return newKey(public)
}

func newKey(public crypto.PublicKey) (*Key, error) {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return nil, fmt.Errorf("an ECDSA key on %s; want P-256, or an Ed25519 key", p.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("a key of type %T; want ECDSA P-256 or Ed25519", public)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return &Key{ID: hex.EncodeToString(sum[:]), public: public}, nil
}

// ParsePrivateKey reads a private key, ECDSA P-256 or Ed25519, of a PEM file (PRIVATE KEY or EC PRIVATE KEY).
func ParsePrivateKey(b []byte) (*PrivateKey, error) {
	// openssl ecparam -genkey writes a block EC PARAMETERS before the key.
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "EC PARAMETERS":
			continue
		default:
			return nil, fmt.Errorf("a PEM block %q; want an unencrypted PRIVATE KEY or EC PRIVATE KEY", block.Type)
		}
		if err != nil {
			return nil, err
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("a key of type %T cannot sign; want ECDSA P-256 or Ed25519", key)
		}
		public, err := newKey(signer.Public())
		if err != nil {
			return nil, err
		}
		return &PrivateKey{Key: *public, signer: signer}, nil
	}
	return nil, errors.New("no PEM block with a private key; make one with openssl genpkey -algorithm ed25519")
}

// KeyID returns the key's ID.
func (k *Key) KeyID() (string, error) { return k.ID, nil }

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Verify returns nil if sig is the key's signature of data.
func (k *Key) Verify(_ context.Context, data, sig []byte) error {
	ok := false
	switch p := k.public.(type) {
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(data)
		ok = ecdsa.VerifyASN1(p, sum[:], sig)
	case ed25519.PublicKey:
		ok = ed25519.Verify(p, data, sig)
	}
	if !ok {
		return errors.New("the signature does not fit")
	}
	return nil
}

// Sign signs data.
func (k *PrivateKey) Sign(_ context.Context, data []byte) ([]byte, error) {
	if _, ok := k.public.(ed25519.PublicKey); ok {
		return k.signer.Sign(rand.Reader, data, crypto.Hash(0))
	}
	sum := sha256.Sum256(data)
	return k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
}
