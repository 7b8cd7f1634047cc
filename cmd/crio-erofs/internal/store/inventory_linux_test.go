package store

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/lockfile"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/driver"
)

// twoImages makes a store in which an image has one layer more than another, and runs a container of each once, so that
// both have image volumes.
func twoImages(t *testing.T, newStore func(*testing.T, ...v1.Image) storage.Store) (store storage.Store,
	containers []*storage.Container) {
	t.Helper()
	layer := func(name string) []byte { return clitest.Tar(t, clitest.File(name, strings.Repeat(name, 20000))) }
	store = newStore(t, clitest.ImageOf(t, layer("a"), layer("b")), clitest.ImageOf(t, layer("a"), layer("b"), layer("c")))
	for _, name := range []string{"example.com/app:1", "example.com/app:2"} {
		img, err := store.Image(name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := store.CreateContainer("", nil, img.ID, "", `{"pod":false}`, nil)
		if err != nil {
			t.Fatal(err)
		}
		containers = append(containers, c)
		if _, err := store.Mount(c.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	return store, containers
}

func decode[T any](t *testing.T, out string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}

func TestStoreLsAndDf(t *testing.T) {
	store, containers := twoImages(t, clitest.Store)
	run := func(args ...string) string {
		t.Helper()
		return clitest.MustExecute(t, Commands(), append(append([]string{"store"}, args...), "--graphroot", store.GraphRoot())...)
	}
	config := filepath.Join(store.GraphRoot(), "erofs-containers", containers[1].ID, "userdata", "config.json")
	if err := os.MkdirAll(filepath.Dir(config), 0o700); err != nil {
		t.Fatal(err)
	}
	annotations := `{"annotations":{"io.katacontainers.erofs.mode":"image-verity","io.kubernetes.cri-o.SandboxID":"` + containers[1].ID + `"}}`
	if err := os.WriteFile(config, []byte(annotations), 0o600); err != nil {
		t.Fatal(err)
	}
	images := decode[[]imageRow](t, run("ls", "--format", "json"))
	if len(images) != 2 {
		t.Fatalf("%+v", images)
	}
	byName := map[string]imageRow{images[0].Names[0]: images[0], images[1].Names[0]: images[1]}
	one, two := byName["example.com/app:1"], byName["example.com/app:2"]
	volumes := map[string]*nodestore.Volume{}
	for _, v := range decode[[]*nodestore.Volume](t, run("ls", "--volumes", "--format", "json")) {
		volumes[v.Name] = v
	}
	if len(volumes) != 5 || one.Layers != 2 || two.Layers != 3 || len(two.Volumes) != 4 {
		t.Fatalf("%d volumes, %+v, %+v", len(volumes), one, two)
	}
	// The two lower layers are in both images; each has an image volume of its own.
	var shared int64
	for _, name := range one.Volumes[:2] {
		shared += volumes[name].Allocated
	}
	for _, img := range []imageRow{one, two} {
		v := volumes[img.ImageVolume]
		if img.Shared != shared || v.Kind != nodestore.KindImage || img.RootHash != v.RootHash || img.Unique != img.Size-shared ||
			img.Unique < v.Private() || v.RootHash == "" {
			t.Errorf("%+v; shared is %d, image volume %+v", img, shared, v)
		}
	}
	if one.Uses["host mount (default handler)"] != 1 || two.Uses["image-verity (default handler)"] != 1 {
		t.Errorf("%v, %v", one.Uses, two.Uses)
	}
	if out := run("ls"); !strings.Contains(out, "example.com/app:2") || !strings.Contains(out, two.ImageVolume) ||
		!strings.Contains(out, "1 image-verity (default handler)") {
		t.Error(out)
	}
	rows := decode[[]dfRow](t, run("df", "--format", "json"))
	if rows[0].Total != 3 || rows[0].Active != 3 || rows[1].Total != 2 || rows[1].Active != 2 || rows[3].Total != 2 || rows[4].Size != 0 {
		t.Errorf("%+v", rows)
	}
	if out := run("df"); !strings.Contains(out, " free of ") || !strings.Contains(out, "Layer volumes") {
		t.Error(out)
	}
}

// TestStoreFromBefore has images from before they were kept apart, too.
func TestStoreFromBefore(t *testing.T) {
	layer := func(name string) []byte { return clitest.Tar(t, clitest.File(name, strings.Repeat(name, 20000))) }
	store := clitest.Store(t, clitest.ImageOf(t, layer("a"), layer("b")))
	store = clitest.Split(t, store, clitest.ImageOf(t, layer("a"), layer("c")), "example.com/new:1")
	run := func(args ...string) string {
		t.Helper()
		return clitest.MustExecute(t, Commands(), append(append([]string{"store"}, args...), "--graphroot", store.GraphRoot(),
			"--runroot", store.RunRoot(), "--images", store.ImageStore())...)
	}
	images := decode[[]imageRow](t, run("ls", "--format", "json"))
	if len(images) != 2 || images[0].Layers != 2 || images[1].Layers != 2 || len(images[0].Volumes) != 2 || len(images[1].Volumes) != 2 {
		t.Errorf("%+v", images)
	}
	if rows := decode[[]dfRow](t, run("df", "--format", "json")); rows[0].Total != 3 {
		t.Errorf("%+v", rows)
	}
	v := decode[storeVerdict](t, run("verify", "--format", "json"))
	if len(v.Volumes) != 3 || len(v.Images) != 2 {
		t.Errorf("%+v", v)
	}
	if found := decode[[]driver.Leftover](t, run("prune", "--all", "--format", "json")); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestStorePrune(t *testing.T) {
	for name, newStore := range map[string]func(*testing.T, ...v1.Image) storage.Store{
		"one store": clitest.Store, "images apart": clitest.SplitStore,
	} {
		t.Run(name, func(t *testing.T) { testStorePrune(t, newStore) })
	}
}

func testStorePrune(t *testing.T, newStore func(*testing.T, ...v1.Image) storage.Store) {
	store, containers := twoImages(t, newStore)
	where := []string{"--graphroot", store.GraphRoot(), "--runroot", store.RunRoot(), "--images", store.ImageStore()}
	prune := func(args ...string) []driver.Leftover {
		t.Helper()
		args = append(append([]string{"store", "prune", "--format", "json"}, where...), args...)
		return decode[[]driver.Leftover](t, clitest.MustExecute(t, Commands(), args...))
	}
	clitest.Refuse(t, Commands(), "--graphroot says where", "store", "prune", "--graphroot", t.TempDir())
	if found := prune("--all"); len(found) != 0 {
		t.Fatalf("of what is in use: %+v", found)
	}
	// The image goes, its layers stay with the other one.
	if _, err := store.Unmount(containers[0].ID, true); err != nil {
		t.Fatal(err)
	}
	if err := store.DeleteContainer(containers[0].ID); err != nil {
		t.Fatal(err)
	}
	if found := prune(); len(found) != 0 {
		t.Fatalf("of an image that is there: %+v", found)
	}
	if found := prune("--all", "-n"); len(found) != 1 || found[0].Kind != driver.LeftoverImageVolume || found[0].Bytes == 0 {
		t.Errorf("%+v", found)
	}
	if _, err := store.DeleteImage("example.com/app:1", true); err != nil {
		t.Fatal(err)
	}
	leaveBehind(t, store)
	for _, args := range [][]string{{"--dry-run"}, {}} {
		found := prune(args...)
		var kinds []string
		for _, l := range found {
			kinds = append(kinds, l.Kind)
			if _, err := os.Lstat(l.Path); (err == nil) != (len(args) > 0) {
				t.Errorf("%v: %+v: %v", args, l, err)
			}
		}
		if got := strings.Join(kinds, ","); got != "layer,image volume,volume,temporary directory" {
			t.Errorf("%v: %s", args, got)
		}
	}
	if found := prune("--all"); len(found) != 0 {
		t.Errorf("again: %+v", found)
	}
	clitest.MustExecute(t, Commands(), append([]string{"store", "verify"}, where...)...)
	if hosts, err := filepath.Glob(filepath.Join(store.GraphRoot(), "erofs/mounts/*")); err != nil || len(hosts) != 1 {
		t.Errorf("mount points %v, %v; one image volume is there", hosts, err)
	}
	if b, err := os.ReadFile(filepath.Join(mountPoint(t, store, containers[1].ID), "c")); err != nil || len(b) != 20000 {
		t.Errorf("the container that runs: %v", err)
	}
}

// TestPruneInterrupted: it does not wait on for a lock that a pull has.
func TestPruneInterrupted(t *testing.T) {
	store, _ := twoImages(t, clitest.Store)
	leaveBehind(t, store)
	pruner, err := nodestore.NewPruner(&nodestore.Roots{GraphRoot: store.GraphRoot(), RunRoot: store.RunRoot()}, false)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := lockfile.GetLockFile(filepath.Join(store.GraphRoot(), "erofs-layers", "layers.lock"))
	if err != nil {
		t.Fatal(err)
	}
	lock.Lock()
	defer lock.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := pruner.Prune(ctx, false); !errors.Is(err, context.Canceled) || len(found) != 0 {
		t.Errorf("%v, %+v", err, found)
	}
}

// leaveBehind makes what programs leave that die at the wrong moment.
func leaveBehind(t *testing.T, store storage.Store) {
	t.Helper()
	home := filepath.Join(store.GraphRoot(), driver.Name)
	if images := store.ImageStore(); images != "" {
		home = filepath.Join(images, driver.Name)
	}
	graphDriver, err := store.GraphDriver()
	if err != nil {
		t.Fatal(err)
	}
	if err := graphDriver.Create("unknown", "", nil); err != nil {
		t.Fatal(err)
	}
	volume := filepath.Join(home, "volumes", strings.Repeat("ab", 12))
	for _, path := range []string{
		filepath.Join(volume, "layer.erofs"), filepath.Join(home, "tmp", "123", "x"),
		filepath.Join(home, "tmp", "notes", "of-others"), // is not the driver's
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 10000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func mountPoint(t *testing.T, store storage.Store, id string) string {
	t.Helper()
	path, err := store.Mount(id, "")
	if err != nil {
		t.Fatal(err)
	}
	return path
}
