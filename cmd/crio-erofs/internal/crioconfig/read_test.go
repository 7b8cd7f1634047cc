package crioconfig_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/crioconfig"
)

// tree makes a tree of files; a content that begins with "-> " is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestRead has files of every kind. That a running CRI-O reads them so, too, is what test/crio's TestDoctor sees.
func TestRead(t *testing.T) {
	root := tree(t, map[string]string{
		"etc/containers/storage.conf": "[storage]\ndriver = \"overlay\"\ngraphroot = \"/g\"\nrunroot = \"/r\"\nimagestore = \"/i\"\n" +
			"[storage.options.overlay]\nmountopt = \"nodev\"\n",
		"usr/share/containers/storage.conf": "[storage]\ndriver = \"vfs\"\n",
		"etc/crio/crio.conf": "[crio]\nstorage_driver = \"\"\nroot = \"\"\n[crio.runtime]\nhooks_dir = [\"/a\", \"/b\"]\n" +
			"[crio.runtime.runtimes.a]\nruntime_path = \"/a\"\nruntime_type = \"vm\"\n[crio.runtime.runtimes.b]\nruntime_path = \"/b\"\n",
		"shared/10-x":                "[crio]\nstorage_driver = \"erofs\"\nstorage_option = [\"erofs.verity=on\", \"erofs.mount=auto\"]\n",
		"etc/crio/crio.conf.d/10-x":  "-> /shared/10-x",
		"etc/crio/crio.conf.d/20/y~": "[crio]\nstorage_option = [\"erofs.verity=on\"]\n[crio.nri]\nnri_plugin_dir = \"/p\"\n",
		"etc/crio/crio.conf.d/30":    "[crio.runtime.runtimes.a]\nruntime_path = \"/a2\"\n[crio.runtime]\nhooks_dir = [\"/c\"]\n",
	})
	s := crioconfig.Source{Root: root}
	c, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	want := crioconfig.Crio{
		GraphRoot: "/g", RunRoot: "/r", ImageStore: "/i", StorageDriver: "erofs",
		StorageOptions: []string{"overlay.mountopt=nodev", "erofs.mount=auto", "erofs.verity=on"},
		API:            crioconfig.API{Listen: crioconfig.DefaultListen},
		Runtime: crioconfig.Runtime{DefaultRuntime: "crun", HooksDir: []string{"/c"}, DecryptionKeys: "/etc/crio/keys/", Runtimes: map[string]*crioconfig.Handler{
			"a": {RuntimePath: "/a2"}, "b": {RuntimePath: "/b"}}},
		NRI: crioconfig.NRI{Enabled: true, Listen: "/var/run/nri/nri.sock", PluginDir: "/p", PluginConfigDir: "/etc/nri/conf.d"},
	}
	if !reflect.DeepEqual(c.Crio, want) {
		t.Errorf("got %+v\nwant %+v", c.Crio, want)
	}
	files := []string{"/etc/containers/storage.conf", "/etc/crio/crio.conf", "/etc/crio/crio.conf.d/10-x",
		"/etc/crio/crio.conf.d/20/y~", "/etc/crio/crio.conf.d/30"}
	if !reflect.DeepEqual(c.Files, files) {
		t.Errorf("read %q, want %q", c.Files, files)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		source crioconfig.Source
		files  map[string]string
		want   string
	}{
		"not TOML":         {files: map[string]string{"etc/crio/crio.conf": "[crio"}, want: "/etc/crio/crio.conf: toml:"},
		"drop-in":          {files: map[string]string{"etc/crio/crio.conf.d/a": "x"}, want: "/etc/crio/crio.conf.d/a: toml:"},
		"type":             {files: map[string]string{"etc/crio/crio.conf": "[crio]\nroot = 1"}, want: "/etc/crio/crio.conf: toml:"},
		"storage.conf":     {files: map[string]string{"etc/containers/storage.conf": "x"}, want: "/etc/containers/storage.conf: toml:"},
		"named, not there": {source: crioconfig.Source{Path: "/x"}, want: "/x: no such file"},
		"dangling drop-in": {files: map[string]string{"etc/crio/crio.conf.d/a": "-> /none"}, want: "/none: no such file"},
		"out of the tree":  {files: map[string]string{"etc/crio/crio.conf": "-> ../../../../../../../../etc/hostname"}, want: "no such file"},
		"directory as a file": {source: crioconfig.Source{Path: "/etc/crio"}, files: map[string]string{"etc/crio/x": ""},
			want: "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.source.Root = tree(t, tt.files)
			if name == "out of the tree" {
				tt.source.Path = "/etc/crio/crio.conf" // named, so that it has to be there
			}
			if c, err := tt.source.Read(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v; want %q", c, err, tt.want)
			}
		})
	}
}

// FuzzDecode feeds text as a configuration file.
func FuzzDecode(f *testing.F) {
	f.Add("[crio]\nstorage_option = [\"a\"]\n[crio.runtime.runtimes.a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := crioconfig.Source{Root: tree(t, map[string]string{"etc/crio/crio.conf": strings.TrimPrefix(text, "-> ")})}
		if c, err := s.Read(); err == nil && c.NRI.PluginDir == "" && !strings.Contains(text, "nri") {
			t.Errorf("%q took away a default", text)
		}
	})
}
