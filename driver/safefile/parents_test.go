package safefile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

// TestParents goes along paths whose directories and links others could change.
func TestParents(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"good/deep", "sticky/deep", "open/deep", "theirs/deep"} {
		must(os.MkdirAll(in(d), 0o755))
		must(os.WriteFile(in(d+"/file"), []byte("x"), 0o644))
	}
	must(os.Chmod(in("sticky"), 0o777|os.ModeSticky))
	must(os.Chmod(in("open"), 0o777))
	must(os.Chown(in("theirs"), 12345, 0))
	for link, target := range map[string]string{
		"absolute": in("good"), "relative": "good/deep/..", "chain": "relative", "toopen": "open", "totheirs": "theirs/deep",
		"around": "good/../open/../good", "loop": "loop", "outside": "../../../../../../../../../../../.." + in("good"),
		"foreign":     "good",
		"good/tofile": "deep/file", "good/tochain": "../relative/tofile", "good/toopen": "../open/deep/file",
		"good/totheirs": in("theirs/deep/file"), "theirs/link": "../good/deep/file", "good/through": "../theirs/link",
		"good/loop": "loop", "good/dangling": "nothing",
	} {
		must(os.Symlink(target, in(link)))
	}
	must(os.Lchown(in("foreign"), 12345, 0))
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
		"good/tofile":        "",
		"good/tochain":       "",
		"good/dangling":      "",
		"good/toopen":        "others than its owner could put another file there",
		"good/totheirs":      "is owned by uid 12345",
		"good/through":       "is owned by uid 12345",
		"good/loop":          "too many levels of symbolic links",
		"sticky/file":        "", // does not exist; the way to it is fine
	} {
		var parents safefile.Parents
		for range 2 { // the second time out of the memory
			err := parents.Check(in(path))
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v, want %q", path, err, want)
			}
		}
	}
}
