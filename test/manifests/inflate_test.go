package manifests_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// inflate undoes the compression that a file of an Ignition configuration names.
func inflate(t *testing.T, data []byte, compression *string) []byte {
	t.Helper()
	if compression == nil || *compression == "" {
		return data
	}
	if *compression != "gzip" {
		t.Fatalf("unknown compression %q", *compression)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
