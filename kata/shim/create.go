package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/kataconfig"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	measured "github.com/crio-erofs/crio-erofs/kata/trust"
)

// envKataConfig names Kata's configuration file, before the request does (src/runtime-rs/crates/runtimes/src/
// manager.rs, load_config).
const envKataConfig = "KATA_CONF_FILE"

// pauseImage is what Kata's runtimes call a sandbox's image when the guest is to pull it: the one that is in the guest
// (src/runtime/virtcontainers/kata_agent.go; resource/src/rootfs/virtual_volume.rs).
const pauseImage = "pause"

// decider answers what the rootfs of a container is.
type decider struct {
	// sandbox is the id of the pod's sandbox.
	sandbox string

	// handler returns the configuration of the pod's runtime handler, as it is now.
	handler func() (modes.Handler, error)

	// runtime returns what the real shim is.
	runtime func() (identity, error)

	// mounts returns the real shim's mount table.
	mounts func() (hostMounts, error)

	// emptyFile is a regular file of no length; see kata.RootfsRequest.
	emptyFile string

	kataConfig kataconfig.Once

	// trusted is what the node trusts.
	trusted *measured.Dir
}

// decision is what becomes of the rootfs in a request.
type decision struct {
	mode   kata.Mode
	keep   bool // it stays as it is
	rootfs []kata.Mount
}

// rootfs decides about one create. An error means that the container must not be created: nothing short of what the
// mode promises is ever passed on.
//
// Paths come from the driver's manifest, which only root can write, never from annotations, which a pod's author can.
func (d *decider) rootfs(c createRequest) (decision, error) {
	pull := len(c.rootfs) > 0
	if pull {
		if err := checkGuestPull(c.rootfs); err != nil {
			return decision{}, fmt.Errorf("request brings a rootfs that is not a guest pull: %w", err)
		}
	}
	config, err := readBundleConfig(c.bundle)
	if err != nil {
		return decision{}, err
	}
	if err := checkPod(d.sandbox, c, config); err != nil {
		return decision{}, err
	}
	h, err := d.handler()
	if err != nil {
		return decision{}, err
	}
	var t trust
	offer, err := offerOf(&t, config)
	if err != nil {
		return decision{}, err
	}
	mode, err := chooseMode(&h, config, offer)
	if err != nil {
		return decision{}, err
	}
	if err := checkForcedPull(config.Annotations); err != nil {
		return decision{}, err
	}
	if err := d.enforce(&h, config, mode, offer); err != nil {
		return decision{}, err
	}
	if pull && mode == kata.ModeGuestPull {
		return decision{mode: mode, keep: true}, nil // CRI-O's own form of what we would make
	}
	if pull && mode == kata.ModeSharedFS {
		return decision{}, fmt.Errorf("CRI-O asks for a pull by the guest, but the container's mode is %s: take "+
			"runtime_pull_image out of the handler's table in CRI-O's configuration, or use mode %s", mode,
			kata.ModeGuestPull)
	}
	r, err := d.request(&t, &h, c, config, mode, offer)
	if err != nil {
		return decision{}, err
	}
	return d.build(&h, config, r)
}

// enforce holds the container's volumes against what the node trusts, if the handler is to. The hook does so, too, but it
// is not asked about sandboxes. Of those CRI-O does not say which image they are of, and what their annotations say may be
// the pod's own: their layers tell.
func (d *decider) enforce(h *modes.Handler, config *bundleConfig, mode kata.Mode, offer modes.Offer) error {
	imageID := ""
	if !config.isSandbox() {
		imageID = config.Annotations[annotationImageRef]
	}
	return d.trusted.Enforce(context.Background(), h, offer.Manifest, mode, imageID)
}

// request collects what the container's rootfs is to be made of, and checks it.
func (d *decider) request(t *trust, h *modes.Handler, c createRequest, config *bundleConfig, mode kata.Mode,
	offer modes.Offer) (*kata.RootfsRequest, error) {
	r := &kata.RootfsRequest{Mode: mode, EmptyFile: d.emptyFile, Image: offer.Reference, Metadata: config.Annotations}
	var err error
	if r.Target, err = d.target(h, c); err != nil {
		return nil, err
	}
	if r.Volumes = modes.Volumes(mode, offer.Manifest); len(r.Volumes) == 0 {
		return r, nil
	}
	if config.hasUserNamespace() {
		// runtime-rs passes the namespace and its mappings on, and Kata's agent makes one in the guest, where the volumes
		// are mounted without mappings: their files would belong to nobody.
		return nil, fmt.Errorf("the pod has a user namespace (hostUsers: false), whose ids the guest would not find in the "+
			"volumes of mode %s: leave hostUsers out, the VM isolates the pod already", mode)
	}
	for i := range r.Volumes {
		if err := checkVolume(t, &r.Volumes[i]); err != nil {
			return nil, err
		}
	}
	// Where something is promised, the guest's memory takes what the container writes.
	if w := offer.Manifest.RWLayer; w != nil && !mode.Verity() {
		if err := checkRWLayer(t, w); err != nil {
			return nil, err
		}
		r.RWLayer = w
	}
	return r, nil
}

// build lets the dialect of the real shim have its word.
func (d *decider) build(h *modes.Handler, config *bundleConfig, r *kata.RootfsRequest) (decision, error) {
	id, err := d.runtime()
	if err != nil {
		return decision{}, err
	}
	if err := checkConfigPath(r.Mode, config.Annotations, id); err != nil {
		return decision{}, err
	}
	dialect, err := dialectOf(h.Dialect, id, r.Mode)
	if err != nil {
		return decision{}, err
	}
	r.HostMount = func(path string) (string, error) {
		m, err := d.mounts()
		if err != nil {
			return "", err
		}
		return m.volume(path)
	}
	mounts, err := dialect.Rootfs(r)
	if err != nil {
		return decision{}, err
	}
	if r.Mode == kata.ModeSharedFS {
		mounts, err = d.sharedRootfs(dialect, id, config.Root.Path, &r.Target)
	}
	return decision{mode: r.Mode, keep: len(mounts) == 0, rootfs: mounts}, err
}

// sharedRootfs looks at what Kata's Go runtime would make of the directory that it is to share: it plugs in block
// devices (kata.BlockRoot). With dialect block-device that is what has to come out.
func (d *decider) sharedRootfs(dialect kata.Dialect, id identity, root string, t *kata.Target) ([]kata.Mount, error) {
	if dialect == kata.DialectRuntimeRS {
		return nil, nil // it shares the directory, and nothing else
	}
	m, err := d.mounts()
	if err != nil {
		return nil, err
	}
	block, err := m.probe().BlockRoot(root, t)
	if err != nil {
		return nil, err
	}
	if dialect != kata.DialectBlockDevice {
		return nil, nil
	}
	if id.kind == kindRust {
		return block.Rootfs(kata.DialectRuntimeRS)
	}
	return block.Rootfs(kata.DialectGo)
}

// target returns what is known of Kata's configuration: the file that the handler names, else the one that Kata will
// read, as far as this is known.
func (d *decider) target(h *modes.Handler, c createRequest) (t kata.Target, err error) {
	path := h.KataConfig
	if path == "" {
		path = os.Getenv(envKataConfig)
	}
	if path == "" {
		path = c.configPath
	}
	if path != "" {
		known, err := d.kataConfig.Load(path)
		if err != nil {
			return t, fmt.Errorf("%w: correct kata_config in [handlers.%s], or else runtime_config_path in CRI-O's configuration",
				err, h.Name)
		}
		t = *known
	}
	if h.Hypervisor != modes.HypervisorAuto && h.Hypervisor != "" {
		t.Hypervisor = string(h.Hypervisor)
	}
	return t, nil
}

// offerOf returns what there is of a container's image: its manifest, if it is on our storage driver, and what CRI-O
// says of it.
func offerOf(t *trust, config *bundleConfig) (modes.Offer, error) {
	m, err := readManifest(t, config.Root.Path)
	if err != nil {
		return modes.Offer{}, err
	}
	offer := modes.NewOffer(m, config.Annotations)
	if config.isSandbox() {
		offer.Reference = pauseImage // a pod's own annotations are above CRI-O's there
	}
	return offer, nil
}

// readManifest returns nil without an error for a rootfs that is not ours.
func readManifest(t *trust, rootPath string) (*volume.Manifest, error) {
	m, err := volume.ReadManifest(rootPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := t.path(volume.ManifestPath(rootPath)); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", rootPath, err)
	}
	return m, nil
}
