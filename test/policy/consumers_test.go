package policy_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata/expected"
	"github.com/crio-erofs/crio-erofs/test/env"
)

// consumer returns one of the programs that "make test-consumers" builds of Kata's and Trustee's own code.
func consumer(t *testing.T, name string) string {
	t.Helper()
	cache, err := env.Cache()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "consumers", "debug", name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%v: 'make test-consumers' builds it", err)
	}
	return path
}

func run(t *testing.T, stdin []byte, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, &stderr)
	}
	return string(out)
}

func writeFile(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKataAgent has the policy loaded and asked by Kata's agent's own code and Rego engine, out of init data that it has
// read itself. The requests become the agent's messages on the way.
func TestKataAgent(t *testing.T) {
	agent := consumer(t, "kata-agent")
	initData, err := expected.InitData(appAndPause())
	if err != nil {
		t.Fatal(err)
	}
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	if _, err := z.Write(initData); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	annotation := base64.StdEncoding.EncodeToString(compressed.Bytes())
	var read struct {
		Digest string
		Data   map[string]string
	}
	out := run(t, nil, agent, "initdata", writeFile(t, []byte(annotation)))
	if err := json.Unmarshal([]byte(out), &read); err != nil {
		t.Fatal(err)
	}
	ours, err := expected.ParseInitData(initData)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(initData)
	if !maps.Equal(read.Data, ours) || read.Digest != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Errorf("Kata reads digest %s and %v", read.Digest, slices.Sorted(maps.Keys(read.Data)))
	}

	var names, want []string
	var requests bytes.Buffer
	enc := json.NewEncoder(&requests)
	add := func(name, rule string, input any, allow bool) {
		names, want = append(names, name), append(want, fmt.Sprint(allow))
		if err := enc.Encode(object{"rule": rule, "input": input}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range createCases(t) {
		add(c.name, "CreateContainerRequest", c.input, c.allow)
	}
	for _, c := range otherCases() {
		add(fmt.Sprint(c.input), c.rule, c.input, c.allow)
	}
	got := strings.Fields(run(t, requests.Bytes(), agent, "policy", writeFile(t, []byte(read.Data[expected.InitDataPolicy]))))
	if len(got) != len(want) {
		t.Fatalf("%d answers to %d requests", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: allowed is %s", names[i], got[i])
		}
	}
}

// TestKataOptions has Kata's runtime-rs read a volume and make the options of its storage.
func TestKataOptions(t *testing.T) {
	agent := consumer(t, "kata-agent")
	path := filepath.Join(t.TempDir(), volume.FileName)
	d, err := volume.Create(path, bytes.NewReader(make([]byte, 1024)), volume.BuildOptions{}) // an empty tar
	if err != nil {
		t.Fatal(err)
	}
	verityPath := filepath.Join(filepath.Dir(path), volume.VerityFileName)
	if err := volume.WriteVerityFile(verityPath, d.Verity); err != nil {
		t.Fatal(err)
	}
	rootfs := expected.Rootfs{Volumes: []measure.Volume{{Size: d.Size, Verity: *d.Verity}}}
	storages, err := rootfs.StorageOptions()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.Unmarshal([]byte(run(t, nil, agent, "options", path, verityPath)), &got); err != nil {
		t.Fatal(err)
	}
	i := slices.Index(storages[0], "X-kata.dmverity-enabled=true")
	if i < 0 || !slices.Equal(got, storages[0][i:]) {
		t.Errorf("Kata makes %q, expected are %q", got, storages[0])
	}
}

// TestTrustee registers reference values with Trustee's service and asks it for them.
func TestTrustee(t *testing.T) {
	rvps := consumer(t, "rvps")
	images := appAndPause()
	message, err := expected.ReferenceValues(images)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	args := []string{writeFile(t, message), t.TempDir()}
	for _, m := range images {
		for _, r := range expected.Rootfses(m) {
			name := expected.ReferenceName(m, r.Mode)
			for _, v := range r.Volumes {
				want[name] = append(want[name], v.Verity.RootHash)
			}
			args = append(args, name)
		}
	}
	got := map[string][]string{}
	if err := json.Unmarshal([]byte(run(t, nil, rvps, args...)), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Trustee has %v, want %v", got, want)
	}
}
