package volumes

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestInputsStay: what is read is not replaced by what is written.
func TestInputsStay(t *testing.T) {
	dir := t.TempDir()
	tar, content := filepath.Join(dir, "layer.tar"), clitest.Tar(t, clitest.File("a", "b"))
	if err := os.WriteFile(tar, content, 0o600); err != nil {
		t.Fatal(err)
	}
	aligned, tarfs := clitest.Volume(t, volume.LayoutAligned, content), clitest.Volume(t, volume.LayoutTarfs, content)
	clitest.Refuse(t, Commands(), "would be replaced", "build", tar, dir+"/./layer.tar")
	clitest.Refuse(t, Commands(), "would be replaced", "merge", aligned, aligned)
	clitest.Refuse(t, Commands(), "is a directory", "build", dir, filepath.Join(dir, "out"))
	clitest.Refuse(t, Commands(), "layout tarfs: only volumes of layout aligned can be merged", "merge", filepath.Join(dir, "out"), tarfs)
	clitest.Refuse(t, Commands(), "--document is for --image", "verify", "--document", tar, aligned)
	if b, err := os.ReadFile(tar); err != nil || !bytes.Equal(b, content) {
		t.Errorf("%v, %d bytes", err, len(b))
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
}
