package kata

import (
	"fmt"
	"slices"
)

// optionRule says which fields of an ExtraOption belong to a type. The table is the RFC's comment above the struct;
// where it says "unused", the field has to be empty, so that nobody puts there what nobody reads.
type optionRule struct {
	source, config, snapshotdir, version, verity fieldUse
}

var optionRules = map[OptionType]optionRule{
	// Kata's readers want source, config and snapshotdir (src/runtime/virtcontainers/nydusd.go, parseExtraOption).
	OptionNydusImageFS:    {source: required, config: required, snapshotdir: required, version: required},
	OptionNydusImageFSOld: {source: required, config: required, snapshotdir: required, version: required},
	OptionNydusImageBlock: {source: required, config: required, snapshotdir: required, verity: optional},
	OptionNydusLayerBlock: {source: required, config: required, snapshotdir: required, verity: optional},
	// The RFC leaves fs_version unused here and has no other field for the file system; see ExtraOption.Version.
	OptionRawImageBlock:    {source: required, version: optional, verity: optional},
	OptionRawLayerBlock:    {source: required, version: optional, verity: optional},
	OptionRuntimeAgentPull: {config: required},
}

// rafsVersions are those that nydus-snapshotter writes (snapshot/mount_option.go) and those that runtime-rs takes, too
// (kata-types/src/mount.rs, TryFrom<&NydusExtraOptions>).
var rafsVersions = []string{"v5", "v6", fsTypeRAFSv5, fsTypeRAFSv6}

// Validate checks the option by the RFC's table of which type uses which field; the error names the field.
func (o *ExtraOption) Validate() error {
	rule, ok := optionRules[o.Type]
	if !ok {
		return fmt.Errorf("type %q is unknown; valid are %q", o.Type, optionTypes)
	}
	for _, f := range []struct {
		name, value string
		use         fieldUse
	}{
		{"source", o.Source, rule.source}, {"config", o.Config, rule.config},
		{"snapshotdir", o.Snapshotdir, rule.snapshotdir}, {"fs_version", o.Version, rule.version},
		{"verity", o.Verity, rule.verity},
	} {
		if err := checkUse(f.name, f.value != "", f.use, fmt.Sprintf("type %q", o.Type)); err != nil {
			return err
		}
		// A configuration of nydusd may well have line ends.
		if err := checkUTF8(f.name, f.value); err != nil {
			return err
		}
	}
	return o.validateFields(rule)
}

func (o *ExtraOption) validateFields(rule optionRule) error {
	if rule.source == required {
		if err := checkPath("source", o.Source); err != nil {
			return err
		}
	}
	if rule.snapshotdir == required {
		if err := checkPath("snapshotdir", o.Snapshotdir); err != nil {
			return err
		}
	}
	switch {
	case rule.version == required && !slices.Contains(rafsVersions, o.Version):
		return fmt.Errorf("fs_version %q is no version of RAFS; valid are %q", o.Version, rafsVersions)
	case rule.version == optional && o.Version != "" && o.Version != FSTypeErofs:
		return fmt.Errorf("fs_version %q is not %q, the file system of a volume", o.Version, FSTypeErofs)
	}
	if o.Type == OptionRuntimeAgentPull {
		if _, err := o.Labels(); err != nil {
			return err
		}
	}
	if o.Verity == "" {
		return nil
	}
	if _, err := ParseParameters(o.Verity); err != nil {
		return fmt.Errorf("verity: %w", err)
	}
	return nil
}
