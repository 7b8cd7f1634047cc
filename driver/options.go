package driver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

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

// options are the driver's settings, out of storage_option = ["erofs.KEY=VALUE"].
type options struct {
	layout volume.Layout
	mount  MountMode
}

// setting is one option: its values, the default first, and how to apply one.
type setting struct {
	key    string
	values []string
	apply  func(*options, string)
}

// settings lists all options there are.
var settings = []setting{
	{"layout", []string{string(volume.LayoutAligned)}, func(o *options, v string) { o.layout = volume.Layout(v) }},
	{"mount", []string{string(MountAuto), string(MountFile), string(MountLoop)}, func(o *options, v string) {
		o.mount = MountMode(v)
	}},
	// A volume is found by its root hash, so there is none without verity. The option exists to say so in a
	// configuration, and to be refused when it says otherwise.
	{"verity", []string{"on"}, func(*options, string) {}},
}

// parseOptions takes the options that containers/storage hands to a driver. Those of other drivers are ignored: where
// storage.conf says driver = "overlay" and CRI-O's storage_driver says "erofs" (as on OpenShift, where the cluster owns
// storage.conf), its generic options arrive here as overlay.mountopt and so on.
func parseOptions(list []string) (options, error) {
	var o options
	for _, s := range settings {
		s.apply(&o, s.values[0])
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
		if i < 0 {
			return options{}, fmt.Errorf("unknown storage option %q; valid are %s", option, validOptions())
		}
		if !hasValue || !slices.Contains(settings[i].values, value) {
			return options{}, fmt.Errorf("storage option %q: %s%s must be %s; valid options are %s", option, optionPrefix,
				name, strings.Join(settings[i].values, " or "), validOptions())
		}
		settings[i].apply(&o, value)
	}
	if len(ignored) > 0 {
		logrus.Infof("Storage driver %s ignores options of other drivers: %s", Name, strings.Join(ignored, ", "))
	}
	return o, nil
}

// validOptions spells out all options and their values.
func validOptions() string {
	var all []string
	for _, s := range settings {
		all = append(all, optionPrefix+s.key+"="+strings.Join(s.values, "|"))
	}
	return strings.Join(all, ", ")
}
