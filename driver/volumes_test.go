package driver_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestDedup has one layer in two chains: one volume, which lasts as long as one of the two.
func TestDedup(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	shared := makeTar(t, file{name: "shared", content: "s"})
	apply(t, d, "base1", "", makeTar(t, file{name: "one", content: "1"}))
	apply(t, d, "base2", "", makeTar(t, file{name: "two", content: "2"}))
	apply(t, d, "top1", "base1", shared)
	apply(t, d, "top2", "base2", shared)
	wantNames(t, root, "volumes", 3)
	m1, err := d.Metadata("top1")
	if err != nil {
		t.Fatal(err)
	}
	m2, err := d.Metadata("top2")
	if err != nil {
		t.Fatal(err)
	}
	if m1["Volume"] != m2["Volume"] || m1["RootHash"] == "" {
		t.Errorf("volumes %q and %q, want one with a root hash", m1["Volume"], m2["Volume"])
	}
	saved, err := d.Dedup(graphdriver.DedupArgs{Layers: []string{"base1", "top1", "base2", "top2"}})
	if err != nil || strconv.FormatUint(saved.Deduped, 10) != m1["VolumeSize"] {
		t.Errorf("deduplication saved %+v, %v; want the %s bytes of the shared volume", saved, err, m1["VolumeSize"])
	}
	if err := d.Remove("top1"); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, get(t, d, "top2")), "/shared ---------- s\n/two ---------- 2"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	put(t, d, "top2")
	for _, id := range []string{"top2", "base2", "base1", "base1"} { // a second time is no error
		if err := d.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	wantNames(t, root, "volumes", 0)
	wantNames(t, root, "layers", 0)
}

// TestApplyToDirectory applies a diff to layers that cannot become volumes.
func TestApplyToDirectory(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "gone", content: "x"}, file{name: "kept", content: "k"}))
	layer := makeTar(t, file{name: ".wh.gone"}, file{name: "new", content: "new"})
	if err := d.Create("written", "base", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(get(t, d, "written")+"/mine", []byte("m"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, d, "written")
	if err := d.CreateReadWrite("rw", "base", nil); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"written": "/kept ---------- k\n/mine ---------- m\n/new ---------- new",
		"rw":      "/kept ---------- k\n/new ---------- new",
	} {
		if _, err := d.ApplyDiff(id, "base", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(layer)}); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, get(t, d, id)); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", id, got, want)
		}
		put(t, d, id)
	}
	wantNames(t, root, "volumes", 1)
	if _, err := d.ApplyDiff("base", "", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(layer)}); err == nil {
		t.Error("a volume layer took a second diff")
	}
}

// TestCollision has a volume of the same name and another root hash in the store.
func TestCollision(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	layer := makeTar(t, file{name: "f", content: "x"})
	apply(t, d, "first", "", layer)
	m, err := d.Metadata("first")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(m["Volume"]), "volume.json")
	var desc volume.Description
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &desc)
	}
	if err != nil {
		t.Fatal(err)
	}
	other := desc.Verity.RootHash[:60] + "0000"
	if err := os.WriteFile(path, bytes.ReplaceAll(b, []byte(desc.Verity.RootHash), []byte(other)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Create("second", "", nil); err != nil {
		t.Fatal(err)
	}
	_, err = d.ApplyDiff("second", "", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(layer)})
	if err == nil || !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), desc.Verity.RootHash) {
		t.Errorf("error does not name both root hashes: %v", err)
	}
	wantNames(t, root, "tmp", 0)
	wantNames(t, root, "volumes", 1)
}

// TestConcurrent applies one layer from goroutines and from processes at the same time.
func TestConcurrent(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	layer := makeTar(t, file{name: "f", content: strings.Repeat("x", 1<<20)})
	var wg sync.WaitGroup
	ids := []string{"g1", "g2", "g3", "p1", "p2"}
	for _, id := range ids {
		wg.Go(func() {
			if strings.HasPrefix(id, "p") {
				cmd := child(root, id)
				cmd.Stdin = bytes.NewReader(layer)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %s", id, err, out)
				}
				return
			}
			if err := d.Create(id, "", nil); err != nil {
				t.Error(err)
			}
			if _, err := d.ApplyDiff(id, "", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(layer)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantNames(t, root, "volumes", 1)
	wantNames(t, root, "tmp", 0)
	for _, id := range ids {
		if got := len(tree(t, get(t, d, id))); got < 1<<20 {
			t.Errorf("%s has %d bytes", id, got)
		}
		put(t, d, id)
		if err := d.Remove(id); err != nil {
			t.Error(err)
		}
	}
	wantNames(t, root, "volumes", 0)
}

// TestVeritysetup lets Debian's veritysetup judge a volume of the store by the root hash that Metadata tells.
func TestVeritysetup(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("veritysetup"); err != nil {
		t.Skip("needs veritysetup")
	}
	d, _ := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "f", content: "content"}))
	m, err := d.Metadata("base")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("veritysetup", "verify", m["Volume"], m["Volume"], m["RootHash"],
		"--hash-offset="+m["HashOffset"]).CombinedOutput()
	if err != nil {
		t.Errorf("veritysetup: %v: %s", err, out)
	}
}
