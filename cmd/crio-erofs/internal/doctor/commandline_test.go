package doctor

import (
	"reflect"
	"testing"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/crioconfig"
)

// TestCommandLine has CRI-O as contrib/kubernetes starts it, on a node whose files say overlay.
func TestCommandLine(t *testing.T) {
	f := commandLine([]string{"/usr/local/bin/crio", "--storage-driver=erofs", "--storage-opt=erofs.verity=on",
		"--storage-opt", "erofs.image_volume=reflink", "-c", "/c", "-d=/d", "--root", "/r"})
	if f.path != "/c" || f.dir != "/d" {
		t.Errorf("%+v", f)
	}
	c := crioconfig.Config{Crio: crioconfig.Crio{GraphRoot: "/g", RunRoot: "/run", StorageDriver: "overlay",
		StorageOptions: []string{"overlay.mountopt=nodev"}}}
	f.apply(&c)
	want := crioconfig.Crio{GraphRoot: "/r", RunRoot: "/run", StorageDriver: "erofs",
		StorageOptions: []string{"erofs.verity=on", "erofs.image_volume=reflink"}}
	if !reflect.DeepEqual(c.Crio, want) {
		t.Errorf("%+v; want %+v", c.Crio, want)
	}
	none := commandLine([]string{"crio"})
	before := c.Crio
	if none.apply(&c); !reflect.DeepEqual(c.Crio, before) {
		t.Errorf("%+v", c.Crio)
	}
}
