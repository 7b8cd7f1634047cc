package files

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

func layers(t *testing.T) (base, top []byte) {
	return clitest.Tar(t, clitest.Dir("etc", 0o755), clitest.File("etc/os-release", "ID=old\n"), clitest.File("gone", "gone"),
			clitest.Link("link", "/etc/os-release")),
		clitest.Tar(t, clitest.File("etc/os-release", "ID=new\n"), clitest.File(".wh.gone", ""), clitest.File("esc\x1b[2J", ""))
}

func TestVolumes(t *testing.T) {
	b, u := layers(t)
	base, top := clitest.Volume(t, volume.LayoutAligned, b), clitest.Volume(t, volume.LayoutTarfs, u)
	run := func(args ...string) string {
		t.Helper()
		return clitest.MustExecute(t, Commands(), args...)
	}
	if out := run("ls", base); out != "/etc\n/gone\n/link\n" {
		t.Error(out)
	}
	want := "drwxr-xr-x  1   0   0  0  2020-09-13 12:26:40  /etc\n"
	if out := run("ls", "-ld", base, "etc"); strings.Fields(out)[0] != strings.Fields(want)[0] || !strings.HasSuffix(out, "2020-09-13 12:26:40  /etc\n") {
		t.Error(out)
	}
	if out := run("ls", "-l", base, "link"); !strings.HasPrefix(out, "lrwxrwxrwx  1  0  0  15  ") || !strings.HasSuffix(out, "  /link -> /etc/os-release\n") {
		t.Error(out)
	}
	if out := run("ls", "-l", top); !strings.Contains(out, "/gone (whiteout)\n") || !strings.Contains(out, `/esc\x1b[2J`) {
		t.Error(out)
	}
	if out := run("ls", "-R", base+","+top); out != "/\n/esc\\x1b[2J\n/etc\n/etc/os-release\n/link\n" {
		t.Errorf("%q", out)
	}
	if out := run("cat", base+","+top, "link"); out != "ID=new\n" {
		t.Error(out)
	}
	if out := run("cat", base, "link", "gone"); out != "ID=old\ngone" {
		t.Error(out)
	}
	out := run("diff", "--ignore", "mtime", base, base+","+top)
	if want = "A  /esc\\x1b[2J\nC  /etc/os-release  content\nD  /gone\n"; out != want {
		t.Errorf("%q; want %q", out, want)
	}
	var changes []change
	if err := json.Unmarshal([]byte(run("diff", "--format", "json", base, base+","+top)), &changes); err != nil || changes[len(changes)-1].Old.Size != 4 {
		t.Errorf("%v, %+v", err, changes)
	}
	if out := run("diff", "--format", "json", base, base); out != "[]\n" {
		t.Error(out)
	}
	clitest.Refuse(t, Commands(), "differ in 3 paths", "diff", "--exit-code", "--ignore", "mtime", base, base+","+top)
	clitest.Refuse(t, Commands(), "no such file", "ls", filepath.Join(t.TempDir(), "x"))
	clitest.Refuse(t, Commands(), "is a directory", "ls", t.TempDir())
	clitest.Refuse(t, Commands(), "not exist", "cat", base, "nothing")
	clitest.Refuse(t, Commands(), "not a regular file: drwxr-xr-x", "cat", base, "etc")
	clitest.Refuse(t, Commands(), "is no file, and as an image or container", "ls", "--graphroot", t.TempDir(), "app")
	clitest.Refuse(t, Commands(), `"colour"`, "diff", "--ignore", "colour", base, base)
}

// TestImages: the same of images in a store that is open.
func TestImages(t *testing.T) {
	base, top := layers(t)
	store := clitest.Store(t, clitest.ImageOf(t, base), clitest.ImageOf(t, base, top))
	run := func(args ...string) string {
		t.Helper()
		return clitest.MustExecute(t, Commands(), append(args, "--graphroot", store.GraphRoot())...)
	}
	for _, name := range []string{"app:2", "example.com/app:2"} {
		if out := run("ls", name); out != "/esc\\x1b[2J\n/etc\n/link\n" {
			t.Error(out)
		}
	}
	images, err := store.Images()
	if err != nil {
		t.Fatal(err)
	}
	if out := run("cat", images[0].ID[:12], "etc/os-release"); out != "ID=old\n" {
		t.Error(out)
	}
	if out := run("diff", "--ignore", "mtime", "app:1", "app:2"); out != "A  /esc\\x1b[2J\nC  /etc/os-release  content\nD  /gone\n" {
		t.Error(out)
	}
	c, err := store.CreateContainer("", nil, images[1].ID, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if out := run("cat", c.ID, "link"); out != "ID=new\n" {
		t.Error(out)
	}
	for name, want := range map[string]string{"app:3": "not found", "nothing": "not found", c.ID[:2]: "not found"} {
		clitest.Refuse(t, Commands(), want, "ls", "--graphroot", store.GraphRoot(), name)
	}
}
