package driver_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver"
)

// TestMostLayers has an image of as many layers as overlayfs can stack, and refuses one more when it is pulled.
func TestMostLayers(t *testing.T) {
	needRoot(t)
	const most = 500
	root := tmpfs(t)
	d := reopen(t, root)
	top := pull(t, d, "volume", makeTar(t, file{name: "lowest", content: "0"}),
		makeTar(t, file{name: "volume", content: "1"}))
	for i := 2; i < most; i++ {
		id := fmt.Sprintf("directory-%d", i)
		if err := d.Create(id, top, nil); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/layers/%s/diff/f%d", driver.Home(d), id, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		top = id
	}
	err := d.Create("one-more", top, nil)
	if err == nil || !strings.Contains(err.Error(), "on top of 500 layers") {
		t.Errorf("layer %d: %v", most+1, err)
	}
	if d.Exists("one-more") {
		t.Error("it is there all the same")
	}
	if err := d.CreateReadWrite("c", top, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.CreateReadWrite("c-of-c", "c", nil); err == nil {
		t.Error("501 layers below a container")
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"one by one", "in a page"} {
		if way == "in a page" {
			driver.UseMountString(d)
		}
		for _, id := range []string{top, "c"} {
			if entries, err := os.ReadDir(get(t, d, id)); err != nil || len(entries) != most {
				t.Errorf("%s: %s has %d files, %v", way, id, len(entries), err)
			}
			put(t, d, id)
		}
	}
	if now, err := os.Getwd(); err != nil || now != cwd {
		t.Errorf("working directory is %s, was %s; %v", now, cwd, err)
	}
}
