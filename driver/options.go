package driver

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containers/storage/drivers/quota"
	units "github.com/docker/go-units"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// optionPrefix marks the options that are this driver's.
const optionPrefix = Name + "."

// MountMode says how volumes are mounted on the host.
type MountMode string

const (
	// MountAuto mounts volume files directly where the kernel can (Linux 6.12 and later, on most file systems) and
	// through loop devices elsewhere.
	MountAuto MountMode = "auto"
	// MountFile mounts volume files directly; Init fails where the kernel cannot.
	MountFile MountMode = "file"
	// MountLoop mounts volumes through loop devices.
	MountLoop MountMode = "loop"
)

// ImageMode says when an image of several volumes is made one volume.
type ImageMode string

const (
	// ImageReflink makes image volumes where they can share their blocks with the layers' volumes.
	ImageReflink ImageMode = "reflink"
	// ImageCopy makes them everywhere; where blocks cannot be shared, an image is twice on the disk.
	ImageCopy ImageMode = "copy"
	// ImageBackground does as ImageCopy, and lets no container wait: those that start before the volume is there have none.
	ImageBackground ImageMode = "background"
	// ImageOff makes none.
	ImageOff ImageMode = "off"
)

// options are the driver's settings, out of storage_option = ["erofs.KEY=VALUE"].
type options struct {
	layout      volume.Layout
	tree        bool // new volumes get a hash tree
	verify      bool // volumes are checked before they are used
	mount       MountMode
	hostVerity  bool     // the host mounts volumes through dm-verity
	imageStores []string // graph roots of additional image stores
	decrypted   bool     // the process may decrypt layers that it puts into the store
	image       ImageMode
	rwDisk      bool        // containers in VMs get a disk for what they write
	rwSize      int64       // of that disk, in bytes
	quota       quota.Quota // of what a container writes on the host, if containers/storage names no other
}

// check refuses settings that do not go together.
func (o *options) check() error {
	if o.verify && !o.tree {
		return errors.New("storage options erofs.verity=off and erofs.verify=on-mount do not go together: a volume without " +
			"a hash tree cannot be checked")
	}
	if o.hostVerity && !o.tree {
		return errors.New("storage options erofs.verity=off and erofs.host_verity=on do not go together: dm-verity needs the " +
			"hash trees")
	}
	if o.hostVerity && o.mount == MountFile {
		return errors.New("storage options erofs.mount=file and erofs.host_verity=on do not go together: dm-verity needs block " +
			"devices; use erofs.mount=auto")
	}
	return nil
}

// setting is one option and how to apply it.
type setting struct {
	key    string
	values []string // the valid ones, the default first; of an option with other values, just the default
	form   string   // what other values look like; empty: there are none
	apply  func(*options, string) error
}

// settings lists all options there are.
var settings = []setting{
	oneOf("layout", func(o *options, v volume.Layout) { o.layout = v }, volume.LayoutAligned, volume.LayoutTarfs),
	oneOf("verity", func(o *options, v string) { o.tree = v == "on" }, "on", "off"),
	oneOf("verify", func(o *options, v string) { o.verify = v == "on-mount" }, "off", "on-mount"),
	oneOf("mount", func(o *options, v MountMode) { o.mount = v }, MountAuto, MountFile, MountLoop),
	oneOf("host_verity", func(o *options, v string) { o.hostVerity = v == "on" }, "off", "on"),
	oneOf("decrypted_layers", func(o *options, v string) { o.decrypted = v == "allow" }, "refuse", "allow"),
	oneOf("image_volume", func(o *options, v ImageMode) { o.image = v }, ImageReflink, ImageCopy,
		ImageBackground, ImageOff),
	oneOf("rw_layer", func(o *options, v string) { o.rwDisk = v == "ext4" }, "memory", "ext4"),
	{key: "rw_size", values: []string{"10G"}, form: "a size such as 10G", apply: setRWSize},
	{key: "imagestore", values: []string{""}, form: "the path of a graph root", apply: addImageStores},
	{key: "size", values: []string{"0"}, form: "a size such as 10G", apply: func(o *options, v string) (err error) {
		o.quota.Size, err = parseSize(v)
		return err
	}},
	{key: "inodes", values: []string{"0"}, form: "a number", apply: func(o *options, v string) (err error) {
		o.quota.Inodes, err = parseInodes(v)
		return err
	}},
}

// generic are options that containers/storage hands to whatever driver storage.conf names (storage v1.58,
// types/options.go, ReloadConfigurationFile), and this one does not have.
var generic = []string{"additionallayerstore", "mount_program", "skip_mount_home", "ignore_chown_errors", "force_mask", "mountopt"}

// setRWSize takes a size with a unit.
func setRWSize(o *options, v string) (err error) {
	if o.rwSize, err = units.RAMInBytes(v); err != nil {
		return err
	}
	// The least is for an ext4 of use to anybody, the most is what an ext4 can have in a file.
	const least, most = 16 << 20, 16 << 40
	if o.rwSize < least || o.rwSize > most {
		return errors.New("the writable layer must have from 16M to 16T")
	}
	o.rwSize &^= rwBlockSize - 1
	return nil
}

// oneOf is an option with a fixed set of values, the default first.
func oneOf[T ~string](key string, set func(*options, T), values ...T) setting {
	s := setting{key: key, apply: func(o *options, v string) error {
		set(o, T(v))
		return nil
	}}
	for _, v := range values {
		s.values = append(s.values, string(v))
	}
	return s
}

// parseOptions takes the options that containers/storage hands to a driver. Those of other drivers are ignored: where
// storage.conf says driver = "overlay" and CRI-O's storage_driver says "erofs" (as on OpenShift, where the cluster owns
// storage.conf), its generic options arrive here as overlay.mountopt and so on.
func parseOptions(list []string) (options, error) {
	var o options
	for _, s := range settings {
		if err := s.apply(&o, s.values[0]); err != nil {
			return options{}, fmt.Errorf("default of %s%s: %w", optionPrefix, s.key, err)
		}
	}
	var ignored []string
	for _, option := range list {
		key, value, hasValue := strings.Cut(option, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		name, ours := strings.CutPrefix(key, optionPrefix)
		if !ours {
			ignored = append(ignored, option)
			continue
		}
		i := slices.IndexFunc(settings, func(s setting) bool { return s.key == name })
		if i < 0 && slices.Contains(generic, name) {
			return options{}, fmt.Errorf("storage option %q is not for this driver: it may be that of [storage.options] in storage.conf; "+
				"remove it there, or move it to [storage.options.overlay] if overlay is to have it; valid are %s", option, validOptions())
		}
		if i < 0 {
			return options{}, fmt.Errorf("unknown storage option %q; valid are %s", option, validOptions())
		}
		if s := settings[i]; !hasValue || (s.form == "" && !slices.Contains(s.values, value)) {
			return options{}, fmt.Errorf("storage option %q: %s%s must be %s; valid options are %s", option, optionPrefix,
				name, s.valid(" or "), validOptions())
		}
		if err := settings[i].apply(&o, value); err != nil {
			return options{}, fmt.Errorf("storage option %q: %w; valid options are %s", option, err, validOptions())
		}
	}
	if len(ignored) > 0 {
		log.WithField("options", strings.Join(ignored, ", ")).Info("Ignoring options of other storage drivers")
	}
	if err := o.check(); err != nil {
		return options{}, fmt.Errorf("%w; valid options are %s", err, validOptions())
	}
	return o, nil
}

// valid spells out an option's values.
func (s *setting) valid(separator string) string {
	if s.form != "" {
		return s.form
	}
	return strings.Join(s.values, separator)
}

// validOptions spells out all options and their values.
func validOptions() string {
	var all []string
	for _, s := range settings {
		all = append(all, optionPrefix+s.key+"="+s.valid("|"))
	}
	return strings.Join(all, ", ")
}
