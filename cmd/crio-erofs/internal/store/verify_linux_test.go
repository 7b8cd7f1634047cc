package store

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/images"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// TestStoreVerify looks at a store that is open, as beside CRI-O: with an image that is not trusted, is, and is not what
// is trusted, and with a damaged volume.
func TestStoreVerify(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the driver needs root")
	}
	img := clitest.NewImage(t, "amd64")
	store := clitest.Store(t, img)
	graphRoot := store.GraphRoot()
	config := filepath.Join(t.TempDir(), "config.toml")
	args := []string{"store", "verify", "--graphroot", graphRoot, "--config", config, "--format", "json"}
	check := func(state imageState, wantErr string, more ...string) storeVerdict {
		t.Helper()
		out, err := clitest.Execute(t, commands(), append(args, more...)...)
		if (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Fatalf("%v; want %q: %s", err, wantErr, out)
		}
		var v storeVerdict
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatal(err)
		}
		if len(v.Volumes) != 2 || len(v.Images) != 1 || v.Images[0].State != state || v.OK != (wantErr == "") {
			t.Errorf("%+v; want image %s", v, state)
		}
		return v
	}
	check(imageUnmeasured, "")
	check(imageUnmeasured, "0 of 2 volumes are not what they should be, 1 of 1 images not trusted", "--require")

	oci := filepath.Join(t.TempDir(), "oci")
	path, err := layout.Write(oci, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	doc := clitest.MustExecute(t, commands(), "measure", "--platform", "linux/amd64", "--format", "json", "oci:"+oci)
	file := filepath.Join(t.TempDir(), "measurement")
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	added := strings.TrimSpace(clitest.MustExecute(t, commands(), "trust", "add", "--config", config, file))
	trusted := check(imageTrusted, "", "--require")

	root := trusted.Volumes[0].RootHash
	wrong := strings.ReplaceAll(doc, root, strings.Repeat("0", 64))
	if err := os.WriteFile(added, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := check(imageUntrusted, "1 of 1 images not trusted"); !strings.Contains(v.Images[0].Note, root) {
		t.Error(v.Images[0].Note)
	}
	if filepath.Base(filepath.Dir(added)) != trust.DirName {
		t.Errorf("added %s", added)
	}
	if err := os.WriteFile(added, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}

	f, err := os.OpenFile(trusted.Volumes[1].Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 4096); err != nil {
		t.Fatal(err)
	}
	if trusted.Images[0].Decrypted {
		t.Error("an image that was never encrypted counts as decrypted")
	}
	manifest := []byte(`{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}]}`)
	if err := store.SetImageBigData(trusted.Images[0].ID, "manifest-"+digest.FromBytes(manifest).String(), manifest,
		func(b []byte) (digest.Digest, error) { return digest.FromBytes(b), nil }); err != nil {
		t.Fatal(err)
	}
	v := check(imageTrusted, "1 of 2 volumes are not what they should be, 0 of 1 images not trusted")
	if !v.Images[0].Decrypted || !v.Volumes[0].OK || v.Volumes[1].OK || !strings.Contains(v.Volumes[1].Note, "4096") {
		t.Errorf("%+v", v)
	}
	clitest.Refuse(t, commands(), "is "+config+"/erofs the store of storage driver erofs?", "store", "verify", "--graphroot", config)
	if out, err := clitest.Execute(t, commands(), args[:len(args)-2]...); err == nil || !strings.Contains(out, "IMAGE") {
		t.Errorf("table: %v, %s", err, out)
	}
}

// TestVerifyRemovedMeanwhile: an image that CRI-O removes while volumes are read is no finding.
func TestVerifyRemovedMeanwhile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the driver needs root")
	}
	store := clitest.Store(t, clitest.NewImage(t, "amd64"))
	s, err := nodestore.Open(&nodestore.Roots{GraphRoot: store.GraphRoot(), RunRoot: store.RunRoot()})
	if err != nil {
		t.Fatal(err)
	}
	o := storeVerifyOptions{config: filepath.Join(t.TempDir(), "config.toml")}
	if v, err := o.verifyImages(t.Context(), s); err != nil || len(v) != 1 {
		t.Fatalf("%v, %+v", err, v)
	}
	if _, err := store.DeleteImage("example.com/app:1", true); err != nil {
		t.Fatal(err)
	}
	if v, err := o.verifyImages(t.Context(), s); err != nil || len(v) != 0 {
		t.Errorf("%v, %+v", err, v)
	}
}

// commands are those of the store, and those that make it trust images.
func commands() []*cobra.Command { return append(Commands(), images.Commands()...) }
