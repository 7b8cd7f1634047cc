package options

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

// optionFields are encode's flags, a field each. Which of them belong to a type is package kata's business.
type optionFields struct {
	typ, volume                                  string
	source, fsType, config, snapshotDir, version string
	verity                                       string
	options                                      []string
	labels                                       map[string]string
}

func (f *optionFields) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&f.typ, "type", "", "the description's type, such as raw-layer-block or layer_raw_block")
	flags.StringVar(&f.volume, "volume", "", "take source and dm-verity parameters from this volume")
	flags.StringVar(&f.source, "source", "", "path of the volume or device, or the image's reference")
	flags.StringVar(&f.fsType, "fs-type", "", "fs_type of a KataVirtualVolume")
	flags.StringArrayVar(&f.options, "mount-option", nil, "one of options of a KataVirtualVolume; may be repeated")
	flags.StringVar(&f.config, "config", "", "nydusd's configuration")
	flags.StringVar(&f.snapshotDir, "snapshotdir", "", "nydus's snapshot directory")
	flags.StringVar(&f.version, "fs-version", "", "fs_version of an ExtraOption")
	flags.StringVar(&f.verity, "verity", "", "dm-verity parameters, as veritysetup's options and the root hash")
	flags.StringToStringVar(&f.labels, "label", nil, "KEY=VALUE: label of an image, or metadata; may be repeated")
}

// item returns the description that the flags are.
func (f *optionFields) item() (kata.Item, error) {
	var dm *kata.DMVerity
	if f.verity != "" {
		var err error
		if dm, err = kata.ParseParameters(f.verity); err != nil {
			return kata.Item{}, cli.Usage(fmt.Errorf("--verity: %w", err))
		}
	}
	if f.volume != "" {
		v, err := describeFile(f.volume)
		if err != nil {
			return kata.Item{}, err
		}
		if f.source != "" || f.verity != "" {
			return kata.Item{}, cli.Usage(fmt.Errorf("--volume brings its own --source and --verity"))
		}
		f.source, dm = v.Path, kata.NewDMVerity(v.Verity)
	}
	if strings.Contains(f.typ, "_") {
		return f.virtualVolume(dm)
	}
	return f.extraOption(dm)
}

// describeFile returns what a manifest says of a volume.
func describeFile(path string) (*volume.ManifestVolume, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	file, size, err := cli.OpenVolume(abs)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := volume.Inspect(file, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &volume.ManifestVolume{Path: abs, Description: volume.Description{Size: size, Verity: info.Verity}}, nil
}

func (f *optionFields) virtualVolume(dm *kata.DMVerity) (kata.Item, error) {
	v := &kata.VirtualVolume{VolumeType: kata.VolumeType(f.typ), Source: f.source, FSType: f.fsType, Options: f.options,
		DMVerity: dm}
	if f.volume != "" { // what the hook writes
		if v.FSType == "" {
			v.FSType = kata.FSTypeErofs
		}
		if v.Options == nil {
			v.Options = []string{"ro"}
		}
	}
	switch v.VolumeType {
	case kata.VolumeImageGuestPull:
		v.ImagePull = &kata.Metadata{Metadata: f.labels}
		if f.labels == nil {
			v.ImagePull.Metadata = map[string]string{}
		}
	case kata.VolumeDirectBlock:
		if f.labels != nil {
			v.DirectVolume = &kata.Metadata{Metadata: f.labels}
		}
	}
	if f.config != "" || f.snapshotDir != "" {
		v.NydusImage = &kata.NydusImage{Config: f.config, SnapshotDir: f.snapshotDir}
	}
	if f.version != "" {
		return kata.Item{}, cli.Usage(fmt.Errorf("--fs-version is an ExtraOption's; a KataVirtualVolume has --fs-type"))
	}
	return kata.Item{Volume: v}, nil
}

func (f *optionFields) extraOption(dm *kata.DMVerity) (kata.Item, error) {
	o := &kata.ExtraOption{Type: kata.OptionType(f.typ), Source: f.source, Config: f.config, Snapshotdir: f.snapshotDir,
		Version: f.version}
	if dm != nil {
		o.Verity = dm.Parameters()
	}
	if f.volume != "" && o.Version == "" {
		o.Version = kata.FSTypeErofs
	}
	if f.fsType != "" || f.options != nil {
		return kata.Item{}, cli.Usage(fmt.Errorf("--fs-type and --mount-option are a KataVirtualVolume's"))
	}
	if f.labels == nil && o.Type != kata.OptionRuntimeAgentPull {
		return kata.Item{Option: o}, nil
	}
	pull, err := kata.NewPullOption(f.labels)
	if err != nil {
		return kata.Item{}, err
	}
	if f.config != "" {
		return kata.Item{}, cli.Usage(fmt.Errorf("--label makes the config of an ExtraOption: leave out --config"))
	}
	o.Config = pull.Config
	return kata.Item{Option: o}, nil
}
