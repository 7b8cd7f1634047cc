// Package matrix runs containers on a real Kata through CRI-O, the driver, the hook and the shim of this repository,
// and finds out what the guest makes of their volumes. It has to run where Kata can.
package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
	"github.com/crio-erofs/crio-erofs/test/realkata/install"
)

// Result is what became of one case.
type Result struct {
	Runtime string `json:"runtime"` // "Rust 4.1.0"
	Case    string `json:"case"`
	Verity  string `json:"verity"`            // whether the guest enforced it: "enforced", "not enforced", "-"
	Error   string `json:"error,omitempty"`   // empty: as it should be
	Skipped string `json:"skipped,omitempty"` // what the guest lacks, so that the case was not run
	Seconds int    `json:"seconds"`
}

// Options says what to run.
type Options struct {
	Runtime   install.Runtime
	Dir       string   // private folder, with a short path, on a file system that can hold a container store
	MemoryMiB int      // of each guest
	Settings  string   // more of Kata's configuration, as TOML
	Keep      bool     // leave the folder with all logs behind
	Only      []string // beginnings of the names of the cases to run; nil: all
}

// wants returns whether a case is to be run.
func (o *Options) wants(name string) bool {
	begins := func(only string) bool { return strings.HasPrefix(name, only) }
	return len(o.Only) == 0 || slices.ContainsFunc(o.Only, begins)
}

// caseTimeout bounds one case. Emulated CPUs take a minute for a pod.
const caseTimeout = 15 * time.Minute

// bench is what the cases work with.
type bench struct {
	opts     Options
	registry *env.Registry
	editor   *crio.ManifestEditor // runs as Kata's shim
	server   *crio.Server
}

// Run runs all cases on one runtime. A case that fails is a result; the error is for what stopped the others, too.
func Run(ctx context.Context, opts Options) (results []Result, err error) {
	b := &bench{opts: opts}
	config, err := opts.Runtime.PrivateConfig(filepath.Join(opts.Dir, "kata"), opts.MemoryMiB, opts.Settings)
	if err != nil {
		return nil, err
	}
	sharing, err := opts.Runtime.PrivateConfig(filepath.Join(opts.Dir, "sharing"), opts.MemoryMiB, install.Sharing,
		opts.Settings)
	if err != nil {
		return nil, err
	}
	if b.editor, err = crio.NewManifestEditor(opts.Dir, opts.Runtime.Shim); err != nil {
		return nil, err
	}
	stopJournal, err := keepLogs(filepath.Join(opts.Dir, "kata.log"))
	if err != nil {
		return nil, err
	}
	defer stopJournal()
	removeAddress, err := addAddress(ctx, registryHost)
	if err != nil {
		return nil, err
	}
	defer removeAddress()
	if b.registry, err = env.StartRegistryOn(ctx, registryHost, filepath.Join(opts.Dir, "registry")); err != nil {
		return nil, err
	}
	defer b.registry.Stop()
	pause, err := b.push(ctx, images.Pause.Name)
	if err != nil {
		return nil, err
	}
	for _, st := range stores {
		var selected []testCase
		for _, c := range cases(opts.Runtime) {
			if c.store == st.name && opts.wants(c.name) {
				selected = append(selected, c)
			}
		}
		more, failure := b.tryAll(ctx, selected, crio.Options{
			Dir: filepath.Join(opts.Dir, string(st.name)), Registry: b.registry.Address, PauseImage: pause,
			StorageOptions: append(slices.Clone(storageOptions), st.options...), Kata: &crio.Kata{
				Shim: b.editor.Program(), Config: config, Configs: map[string]string{crio.HandlerVMLayer: sharing},
			},
		})
		results = append(results, more...)
		err = errors.Join(err, failure)
	}
	return results, err
}

// storageOptions are the driver's in all stores.
var storageOptions = []string{"erofs.layout=aligned", "erofs.verity=on", "erofs.mount=auto"}

// storeName names a store that cases run on. It is a short one, as sockets are below it.
type storeName string

const (
	storeLayers storeName = "l" // no image has a volume of its own
	storeImages storeName = "i" // every image has one: a copy, which needs no reflinks
	storeDisks  storeName = "d" // as images, and what containers without verity write goes to disks of 16 MiB
)

// stores are the stores, each with a CRI-O of its own, in the order in which they are used.
var stores = []struct {
	name    storeName
	options []string
}{
	{storeLayers, []string{"erofs.image_volume=off"}},
	{storeImages, []string{"erofs.image_volume=copy"}},
	{storeDisks, []string{"erofs.image_volume=copy", "erofs.rw_layer=ext4", "erofs.rw_size=16M"}},
}

// tryAll runs cases on one CRI-O.
func (b *bench) tryAll(ctx context.Context, selected []testCase, opts crio.Options) (results []Result, err error) {
	if len(selected) == 0 {
		return nil, nil
	}
	if b.server, err = crio.Start(ctx, opts); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, c := range selected {
		results = append(results, b.try(ctx, c))
	}
	return results, nil
}

// push puts an image into the registry and returns its reference.
func (b *bench) push(ctx context.Context, name string) (string, error) {
	cache, err := env.Cache()
	if err != nil {
		return "", err
	}
	for _, image := range []images.Image{images.Pause, images.Small} {
		if image.Name == name {
			return image.Push(ctx, cache, b.registry.Address)
		}
	}
	return pushDerived(ctx, name, b.registry.Address)
}

// pod pulls images and starts a pod under the handler for VMs. It returns the images' references.
func (b *bench) pod(ctx context.Context, images ...string) (*crio.Pod, []string, error) {
	refs, err := b.pull(ctx, images...)
	if err != nil {
		return nil, nil, err
	}
	pod, err := b.server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM})
	return pod, refs, err
}

// pull has CRI-O pull images, and returns their references.
func (b *bench) pull(ctx context.Context, images ...string) (refs []string, err error) {
	for _, name := range images {
		ref, err := b.push(ctx, name)
		if err != nil {
			return nil, err
		}
		if _, err := b.server.PullImage(ctx, ref); err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// close ends CRI-O. Its log is kept when the folder is.
func (b *bench) close() error {
	if b.opts.Keep {
		if log, err := os.ReadFile(b.server.LogFile()); err == nil {
			if err := os.WriteFile(filepath.Join(b.opts.Dir, "crio-"+filepath.Base(b.server.Dir())+".log"), log, 0o644); err != nil {
				logrus.Warn(err)
			}
		}
	}
	return b.server.Close()
}

// try runs one case.
func (b *bench) try(ctx context.Context, c testCase) Result {
	ctx, cancel := context.WithTimeout(ctx, caseTimeout)
	defer cancel()
	began := time.Now()
	logrus.Infof("%s: %s ...", b.opts.Runtime.Kind, c.name)
	verity, err := c.run(ctx, b)
	err = errors.Join(err, b.removePods(context.WithoutCancel(ctx)))
	r := Result{
		Runtime: fmt.Sprintf("%s %s", b.opts.Runtime.Kind, b.opts.Runtime.Version),
		Case:    c.name, Verity: verity, Seconds: int(time.Since(began).Seconds()),
	}
	var skip skipError
	if errors.As(err, &skip) {
		r.Skipped, err = skip.Error(), nil
	} else if err == nil && verity != c.verity {
		err = fmt.Errorf("dm-verity is %q in the guest, not %q", verity, c.verity)
	}
	switch {
	case r.Skipped != "":
		logrus.Warnf("%s: %s: skipped: %s", b.opts.Runtime.Kind, c.name, r.Skipped)
	case err != nil:
		r.Error = err.Error()
		logrus.Errorf("%s: %s: %v", b.opts.Runtime.Kind, c.name, err)
	default:
		logrus.Infof("%s: %s: ok, verity %s, %d s", b.opts.Runtime.Kind, c.name, verity, r.Seconds)
	}
	return r
}

// removeAttempts bounds how often the removal of pods is tried. kubelet, too, tries again: Kata's Go runtime (4.1.0,
// pkg/containerd-shim-v2/wait.go) ends the VM while CRI-O already removes the pod's other containers, and whichever of
// these it is about then is an error, once.
const removeAttempts = 3

func (b *bench) removePods(ctx context.Context) (err error) {
	for range removeAttempts {
		if err = b.server.RemoveAllPods(ctx); err == nil {
			return nil
		}
		logrus.Warn(err)
		time.Sleep(time.Second)
	}
	return err
}
