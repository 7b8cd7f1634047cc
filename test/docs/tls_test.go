package docs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// exampleRegistry is the registry's name in the documentation.
const exampleRegistry = "registry.example"

// namedRegistry is the test's registry, as pages see it: with the documentation's name, and TLS.
type namedRegistry struct {
	ip   string // of 127.0.0.0/8, so that port 443 is free
	cert string // file with the certificate
}

// nameRegistry makes a registry on plain HTTP known by the documentation's name.
func nameRegistry(t *testing.T, address string) namedRegistry {
	t.Helper()
	pid := os.Getpid()
	ip := fmt.Sprintf("127.%d.%d.%d", 64|pid>>16&63, pid>>8&255, pid&255)
	l, err := net.Listen("tcp", ip+":443")
	if err != nil {
		t.Fatal(err)
	}
	certificate, text := selfSigned(t)
	server := &http.Server{
		Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host // the registry names itself in answers
			r.Out.Header.Set("X-Forwarded-Proto", "https")
		}},
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: time.Minute,
	}
	go server.ServeTLS(l, "", "") // ends with Close
	t.Cleanup(func() { server.Close() })
	file := filepath.Join(t.TempDir(), "registry.crt")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return namedRegistry{ip: ip, cert: file}
}

// selfSigned makes a certificate for the documentation's registry.
func selfSigned(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: exampleRegistry}, DNSNames: []string{exampleRegistry},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
