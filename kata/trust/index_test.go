package trust_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// manyMeasurements makes directories with n measurements of other images, signed, beside that of image 1.
func manyMeasurements(t testing.TB, n int) *trust.Dir {
	t.Helper()
	key := newKeys(t)["ed25519"]
	config := t.TempDir()
	for _, dir := range []string{trust.DirName, trust.KeysName} {
		if err := os.Mkdir(filepath.Join(config, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(config, trust.KeysName, "key.pem"), publicPEM(t, key))
	for i := range n {
		m := measurement(i + 1)
		for range 50 { // more layers than most images have; equal ones are copies but for the topmost
			top := len(m.Layers) - 1
			m.Layers = append(m.Layers, m.Layers[top])
			m.Layers[top].Copy = true
		}
		write(t, filepath.Join(config, trust.DirName, fmt.Sprintf("%d.json", i+1)), sign(t, m, key))
	}
	return trust.NextTo(filepath.Join(config, "config.toml"))
}

// TestDirMemory: a process of each pod has a Dir, so what it remembers must not grow with what the measurements say.
func TestDirMemory(t *testing.T) {
	const files = 200
	d := manyMeasurements(t, files)
	used := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC() // what has finalizers goes the second time
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := used()
	m := measurement(7)
	err := d.Check(t.Context(), manifest(m), kata.ModeImageVerity, imageID(m))
	if err == nil || !strings.Contains(err.Error(), "the node has layers with diffIDs") {
		t.Fatal(err)
	}
	after := used()
	perFile := (int64(after) - int64(before)) / files
	t.Logf("%d bytes of each file", perFile)
	if perFile > 1024 {
		t.Errorf("%d bytes are remembered of each file, of some 30 KB each", perFile)
	}
	runtime.KeepAlive(d)
}

// TestIndex: what was looked at ahead counts no longer when it has changed.
func TestIndex(t *testing.T) {
	d := manyMeasurements(t, 3)
	d.Index()
	mine := filepath.Join(d.Path(), "2.json")
	b, err := os.ReadFile(mine)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	m := measurement(2)
	if err := d.Check(t.Context(), manifest(m), kata.ModeImageVerity, imageID(m)); !errors.Is(err, trust.ErrNotMeasured) {
		t.Errorf("with its file away: %v", err)
	}
	write(t, filepath.Join(d.Path(), "new.json"), b)
	if err := d.Check(t.Context(), manifest(m), kata.ModeImageVerity, imageID(m)); errors.Is(err, trust.ErrNotMeasured) {
		t.Errorf("with its file back: %v", err)
	}
}

// BenchmarkCheck is what a container costs on a node with 1000 measurements: its index is there, or it is not; its image
// was measured, or it was not.
func BenchmarkCheck(b *testing.B) {
	d := manyMeasurements(b, 1000)
	check := func(b *testing.B, d *trust.Dir, m *measure.Measurement) {
		if err := d.Check(b.Context(), manifest(m), kata.ModeImageVerity, imageID(m)); err == nil {
			b.Fatal("no error")
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			check(b, trust.NewDir(d.Path(), d.KeysPath()), measurement(7))
		}
	})
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			trust.NewDir(d.Path(), d.KeysPath()).Index()
		}
	})
	for name, m := range map[string]*measure.Measurement{"again": measurement(7), "unmeasured": measurement(5000)} {
		b.Run(name, func(b *testing.B) {
			check(b, d, m)
			for b.Loop() {
				check(b, d, m)
			}
		})
	}
}

// FuzzIndex: what counts is found, however it is written.
func FuzzIndex(f *testing.F) {
	key := newKeys(f)["ed25519"]
	f.Add(sign(f, measurement(1), key))
	plain, err := json.Marshal(measurement(2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(append([]byte(`{"layers":[{},{},{}],"Config_Digest":"x","\u0063onfig_digest":"y",`), plain[1:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _, err := trust.ParseTrusted(t.Context(), b, []*trust.Key{&key.Key})
		if err == nil && !trust.Indexes(b, m) {
			t.Errorf("not found: %s", b)
		}
	})
}
