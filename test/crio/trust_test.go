package crio_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/image/v5/types"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/measure/source"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/trust"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestEnforce starts containers of an image that the node does not trust, does trust, and trusts to be another. The
// handler runc, which is no shim, gets volumes by the configuration: what passes the check is stopped by the guard.
func TestEnforce(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("the containers' rootfs are not on the erofs driver")
	}
	server := start(t)
	ref := pull(t, server, images.Small)
	right := measureImage(t, ref)
	wrong := measureImage(t, ref)
	wrong.Layers[1].Verity.RootHash = strings.Repeat("0", 64)
	id := strings.TrimPrefix(right.ConfigDigest, "sha256:")
	const passed = "asks for mode layer-verity, but its runtime is not"
	for _, step := range []struct {
		enforce string
		trusted *measure.Measurement
		want    string
	}{
		{"off", nil, passed},
		{"warn", nil, passed},
		{"require", nil, "image sha256:" + id + ": not trusted: " + filepath.Join(server.Dir(), trust.DirName) + " has no measurement of it"},
		{"require", right, passed},
		{"require", wrong, "has root hash " + right.Layers[1].Verity.RootHash + ", measured was " + wrong.Layers[1].Verity.RootHash},
		{"warn", wrong, passed},
	} {
		t.Run(fmt.Sprintf("%s %t", step.enforce, step.trusted == right), func(t *testing.T) {
			config := fmt.Sprintf("[handlers.runc]\nmodes = [%q]\nenforce = %q\n", kata.ModeLayerVerity, step.enforce)
			if err := server.SetConfig(config); err != nil {
				t.Fatal(err)
			}
			setTrusted(t, server, step.trusted)
			checkRefused(t, server, crio.PodOptions{Handler: crio.HandlerRunc}, ref, step.want)
		})
	}
}

// measureImage measures an image of the registry.
func measureImage(t *testing.T, ref string) *measure.Measurement {
	t.Helper()
	src, err := source.Open(t.Context(), "docker://"+ref, source.Options{
		System: &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue}})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	m, err := measure.Measure(t.Context(), src.Images[0], measure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// setTrusted makes these measurements what the node trusts.
func setTrusted(t *testing.T, server *crio.Server, measurements ...*measure.Measurement) {
	t.Helper()
	dir := filepath.Join(server.Dir(), trust.DirName)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, m := range measurements {
		if m == nil {
			continue
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.json", i)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
