package driver_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/driver"
)

// TestFindCapabilities leaves nothing, and removes what processes have left that were killed meanwhile.
func TestFindCapabilities(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{
		".crio-erofs-try-1": time.Hour, // of a process that was killed
		".crio-erofs-try-2": 0,         // of one that may live
		"notes":             time.Hour, // not ours
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Join(path, "tmp/123/volume"), 0o700); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	c, err := driver.FindCapabilities(dir)
	if err != nil || c.EROFS != nil || c.LoopMount != nil || c.BackingFS == "" {
		t.Errorf("%+v, %v", c, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != ".crio-erofs-try-2" || entries[1].Name() != "notes" {
		t.Errorf("%v, %v", entries, err)
	}
}
