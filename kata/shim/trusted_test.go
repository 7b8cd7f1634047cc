package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTrust goes along paths whose directories and links others could change.
func TestTrust(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	dir := t.TempDir()
	f := &fixture{t: t, dir: dir}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"good/deep", "sticky/deep", "open/deep", "theirs/deep"} {
		f.mkdir(in(d))
		f.write(in(d+"/file"), "x")
	}
	f.must(os.Chmod(in("sticky"), 0o777|os.ModeSticky))
	f.must(os.Chmod(in("open"), 0o777))
	f.must(os.Chown(in("theirs"), 12345, 0))
	for link, target := range map[string]string{
		"absolute": in("good"), "relative": "good/deep/..", "chain": "relative", "toopen": "open", "totheirs": "theirs/deep",
		"around": "good/../open/../good", "loop": "loop", "outside": "../../../../../../../../../../../.." + in("good"),
		"foreign": "good",
	} {
		f.must(os.Symlink(target, in(link)))
	}
	f.must(os.Lchown(in("foreign"), 12345, 0))
	for path, want := range map[string]string{
		"good/deep/file":     "",
		"sticky/deep/file":   "",
		"absolute/deep/file": "",
		"relative/deep/file": "",
		"chain/deep/file":    "",
		"outside/deep/file":  "",
		"open/deep/file":     "others than its owner could put another file there",
		"toopen/deep/file":   "others than its owner could put another file there",
		"around/deep/file":   "others than its owner could put another file there",
		"theirs/deep/file":   "is owned by uid 12345",
		"totheirs/file":      "is owned by uid 12345",
		"foreign/deep/file":  "is owned by uid 12345",
		"loop/deep/file":     "too many levels of symbolic links",
		"good/deep/file/x":   "is no directory",
		"absent/deep/file":   "no such file",
		"sticky/file":        "", // does not exist; the way to it is fine
	} {
		var tr trust
		for range 2 { // the second time out of the memory
			err := tr.path(in(path))
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v, want %q", path, err, want)
			}
		}
	}
}
