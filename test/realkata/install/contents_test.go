package install

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestGuestHas(t *testing.T) {
	const text = "is blocked by policy"
	with := strings.Repeat("x", 1<<20-5) + text + "y" // across the end of a buffer
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	if _, err := z.Write([]byte(with)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key, content string
		found        bool
	}{
		{"image", with, true}, {"initrd", with, true}, {"initrd", compressed.String(), true},
		{"initrd", "", false}, {"image", strings.Replace(with, "by", "bx", 1), false},
	} {
		dir := t.TempDir()
		r := Runtime{Config: filepath.Join(dir, "configuration.toml")}
		guest := filepath.Join(dir, "guest")
		for path, content := range map[string]string{
			r.Config: fmt.Sprintf("[hypervisor.qemu]\n%s = %q\n", c.key, guest), guest: c.content,
		} {
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if found, file, err := r.GuestHas(text); err != nil || found != c.found || file != guest {
			t.Errorf("%s of %d bytes: %t in %s, %v", c.key, len(c.content), found, file, err)
		}
	}
}

// TestContains: a text that comes in pieces.
func TestContains(t *testing.T) {
	for text, want := range map[string]bool{"aab": true, "b": true, "abc": false} {
		if got, err := contains(iotest.OneByteReader(strings.NewReader("aaab")), []byte(text)); err != nil || got != want {
			t.Errorf("%q: %t, %v", text, got, err)
		}
	}
}
