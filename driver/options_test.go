package driver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/crio-erofs/crio-erofs/driver"
)

func TestOptions(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		options []string
		bad     string // part of the error; empty: none
	}{
		{nil, ""},
		{[]string{"erofs.layout=aligned", "erofs.verity=on", "erofs.mount=auto"}, ""},
		{[]string{"erofs.mount=loop"}, ""},
		{[]string{"EROFS.Mount=loop"}, ""},
		{[]string{"overlay.mountopt=nodev,metacopy=on", "overlay.skip_mount_home=true", ".size=10G", "odd"}, ""},
		{[]string{"erofs.mount=fuse"}, `"erofs.mount=fuse"`},
		{[]string{"erofs.mount"}, `"erofs.mount"`},
		{[]string{"erofs.layout=tarfs", "erofs.verify=on-mount", "erofs.image_volume=copy"}, ""},
		{[]string{"erofs.verity=off"}, ""},
		{[]string{"erofs.verity=no"}, "erofs.verity must be on or off"},
		{[]string{"erofs.layout=squashfs"}, "erofs.layout must be aligned or tarfs"},
		{[]string{"erofs.verity=off", "erofs.verify=on-mount"}, "do not go together"},
		{[]string{"erofs.mountopts=nodev"}, `unknown storage option "erofs.mountopts=nodev"`},
		{[]string{"erofs.mountopt=nodev"}, `"erofs.mountopt=nodev" is not for this driver: it may be that of [storage.options] in storage.conf`},
	} {
		root := t.TempDir()
		_, err := openDriver(root, c.options...)
		if c.bad == "" {
			if err != nil {
				t.Errorf("%v: %v", c.options, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.bad) ||
			!strings.Contains(err.Error(), "erofs.mount=auto|file|loop") {
			t.Errorf("%v: error %v; want %s and the valid options", c.options, err, c.bad)
		}
		if entries, _ := os.ReadDir(root); len(entries) > 0 {
			t.Errorf("%v: a refused configuration leaves %v", c.options, entries)
		}
	}
}

// TestForeignOptions wants one line, not one per option.
func TestForeignOptions(t *testing.T) {
	needRoot(t)
	hook := logtest.NewGlobal()
	defer logrus.StandardLogger().ReplaceHooks(make(logrus.LevelHooks))
	if _, err := openDriver(t.TempDir(), "overlay.a=1", "overlay.b=2"); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, e := range hook.AllEntries() {
		if e.Data["options"] == "overlay.a=1, overlay.b=2" {
			lines++
		}
	}
	if lines != 1 {
		t.Errorf("%d log lines", lines)
	}
}

func TestStoreVersion(t *testing.T) {
	needRoot(t)
	_, root := newDriver(t)
	path := filepath.Join(root, driver.Name, "store.json")
	for content, want := range map[string]string{
		`{"version":2}`: "version 2",
		`{"version"`:    "restore the file's content",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openDriver(root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", content, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	for _, id := range []string{"", ".", "..", "a/b", "../x"} {
		if err := d.Create(id, "", nil); err == nil {
			t.Errorf("layer id %q accepted", id)
		}
	}
	if err := d.Create("child", "no such parent", nil); err == nil {
		t.Error("unknown parent accepted")
	}
	sized := &graphdriver.CreateOpts{StorageOpt: map[string]string{"size": "1G"}}
	if err := d.CreateReadWrite("sized", "", sized); err == nil || !strings.Contains(err.Error(), "size") {
		t.Errorf("a size that cannot be kept is accepted: %v", err)
	}
	wantNames(t, root, "layers", 0)
	_, err := graphdriver.GetDriver(driver.Name, graphdriver.Options{Root: root, ImageStore: root})
	if err == nil || !strings.Contains(err.Error(), "remove imagestore") {
		t.Errorf("the graph root as image store: %v", err)
	}
}
