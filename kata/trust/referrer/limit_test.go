package referrer_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata/trust/referrer"
)

// TestEndlessList: a registry's list of referrers without an end takes neither memory nor time without one.
func TestEndlessList(t *testing.T) {
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return // "/v2/"
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		chunk := bytes.Repeat([]byte(" "), 1<<20)
		for sent.Load() < 64<<20 {
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	repo, err := referrer.NewRepository(strings.TrimPrefix(server.URL, "http://")+"/org/app", true)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = repo.Find(t.Context(), "sha256:"+strings.Repeat("a", 64), nil)
	if err == nil || !strings.Contains(err.Error(), "more than 8388608 bytes") {
		t.Errorf("%v", err)
	}
	t.Logf("sent %d MiB", sent.Load()>>20)
}

// TestBounded: what is exactly as long as the bound comes whole.
func TestBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 8 << 20
		if r.URL.Path == "/more" {
			n++
		}
		_, _ = w.Write(make([]byte, n))
	}))
	t.Cleanup(server.Close)
	client := http.Client{Transport: referrer.Bounded(http.DefaultTransport)}
	for path, refused := range map[string]bool{"/": false, "/more": true} {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if len(b) != 8<<20 || (err != nil) != refused {
			t.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
	}
}
