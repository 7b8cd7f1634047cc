package options

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/kata"
)

func newOptionExplainCommand() *cobra.Command {
	var format output.Format
	cmd := &cobra.Command{
		Use:   "explain [TEXT]",
		Short: "Say in words what an option or annotation means, and what Kata does with it",
		Long: `explain tells what each description in TEXT is, what a stock Kata makes of it, and how veritysetup would open the volume.
What is said of Kata is of its source at 4.1.0.

` + optionText,
		Args: cli.MaximumArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := readItems(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			explained := make([]explanation, len(items))
			for i, item := range items {
				explained[i] = explain(item)
			}
			blocks := make([]output.Block, len(explained))
			for i, e := range explained {
				blocks[i] = e.fields()
			}
			return format.Print(cmd.OutOrStdout(), explained, blocks...)
		},
	}
	output.AddFlag(cmd, &format, explanation{})
	return cmd
}

// explanation is what explain prints as JSON.
type explanation struct {
	Key         string            `json:"key,omitempty"`
	Kind        string            `json:"kind"`
	Type        string            `json:"type"`
	Meaning     string            `json:"meaning"`
	Source      string            `json:"source,omitempty"`
	FSType      string            `json:"fs_type,omitempty"`
	Options     []string          `json:"options,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Verity      string            `json:"verity,omitempty"`
	VeritySetup string            `json:"veritysetup,omitempty"`
	GoRuntime   string            `json:"kata_go_runtime"`
	RuntimeRS   string            `json:"kata_runtime_rs"`
	Here        string            `json:"crio_erofs"`
}

// knowledge is what explain knows of a type. The references are to Kata's source.
type knowledge struct {
	meaning, goRuntime, runtimeRS, here string
}

const (
	ignoredByGo = "ignored: parsed and logged, no disk is made, the container fails on an empty root " +
		"(virtcontainers/container.go createVirtualVolumeDevices, fs_share_linux.go shareRootFilesystemWithVirtualVolume)"
	refusedByRS = "refused, \"unsupported type\" (resource/src/rootfs/virtual_volume.rs)"
	nydusInGo   = "only with virtio-fs-nydus: nydusd serves the image (virtcontainers/nydusd.go parseExtraOption)"
	nydusInRS   = "only with virtio-fs: nydusd serves the image (resource/src/rootfs/nydus_rootfs.rs)"
	noReader    = "nobody reads it: the RFC's block types never came to Kata"
	fromUs      = "the shim compares it with the manifest and attaches the manifest's volume in the real shim's dialect " +
		"(docs/shim.md)"
	notOurs = "never written, and refused if a container carries it"
)

// volumeKnowledge is of KataVirtualVolume's types.
var volumeKnowledge = map[kata.VolumeType]knowledge{
	kata.VolumeImageRawBlock:   {"one disk with the whole image", ignoredByGo, refusedByRS, fromUs},
	kata.VolumeLayerRawBlock:   {"one disk with a layer of the image", ignoredByGo, refusedByRS, fromUs},
	kata.VolumeImageNydusBlock: {"a nydus image on a disk", ignoredByGo, refusedByRS, notOurs},
	kata.VolumeLayerNydusBlock: {"a nydus layer on a disk", ignoredByGo, refusedByRS, notOurs},
	kata.VolumeImageNydusFS:    {"a nydus image over virtio-fs", ignoredByGo, refusedByRS, notOurs},
	kata.VolumeLayerNydusFS:    {"a nydus layer over virtio-fs", ignoredByGo, refusedByRS, notOurs},
	kata.VolumeDirectBlock: {"a block device of the host as a volume of the container",
		ignoredByGo, refusedByRS, notOurs},
	kata.VolumeImageGuestPull: {"the guest pulls the image itself",
		"the agent pulls what CRI-O's annotation names, not source (virtcontainers/kata_agent.go " +
			"handleImageGuestPullBlockVolume)",
		"the same, if shared_fs is none (resource/src/rootfs/mod.rs is_guest_pull_volume)",
		"mode guest-pull: the shim makes the mount, or lets CRI-O's through"},
}

// optionKnowledge is of the RFC's types.
var optionKnowledge = map[kata.OptionType]knowledge{
	kata.OptionNydusImageFS:    {"a nydus image over virtio-fs", nydusInGo, nydusInRS, notOurs},
	kata.OptionNydusImageFSOld: {"a nydus image over virtio-fs, as nydus-snapshotter writes it", nydusInGo, nydusInRS, notOurs},
	kata.OptionNydusImageBlock: {"a nydus image on a disk", noReader, noReader, notOurs},
	kata.OptionNydusLayerBlock: {"a nydus layer on a disk", noReader, noReader, notOurs},
	kata.OptionRawImageBlock:   {"one disk with the whole image", noReader, noReader, fromUs},
	kata.OptionRawLayerBlock:   {"one disk with a layer of the image", noReader, noReader, fromUs},
	kata.OptionRuntimeAgentPull: {"the guest pulls the image itself, by the labels in config",
		"nobody reads it; image_guest_pull of KataVirtualVolume took its place",
		"nobody reads it; image_guest_pull of KataVirtualVolume took its place", "mode guest-pull"},
}

func explain(item kata.Item) explanation {
	if v := item.Volume; v != nil {
		k := volumeKnowledge[v.VolumeType]
		e := newExplanation(item.Key, "KataVirtualVolume", string(v.VolumeType), k)
		e.Source, e.FSType, e.Options = v.Source, v.FSType, v.Options
		for _, m := range []*kata.Metadata{v.ImagePull, v.DirectVolume} {
			if m != nil {
				e.Metadata = m.Metadata
			}
		}
		e.setVerity(v.DMVerity)
		return e
	}
	o := item.Option
	e := newExplanation(item.Key, "ExtraOption", string(o.Type), optionKnowledge[o.Type])
	e.Source, e.FSType = o.Source, o.Version
	if o.Type == kata.OptionRuntimeAgentPull {
		e.Metadata, _ = o.Labels() // valid, or it would not have been decoded
	}
	if o.Verity != "" {
		d, _ := kata.ParseParameters(o.Verity)
		e.setVerity(d)
	}
	return e
}

func newExplanation(key, kind, typ string, k knowledge) explanation {
	return explanation{Key: key, Kind: kind, Type: typ, Meaning: k.meaning, GoRuntime: k.goRuntime, RuntimeRS: k.runtimeRS,
		Here: k.here}
}

func (e *explanation) setVerity(d *kata.DMVerity) {
	if d == nil {
		return
	}
	e.Verity = fmt.Sprintf("%s %s, %d blocks of %d bytes, tree of %d-byte blocks at %d", d.HashType, d.Hash, d.BlockNum,
		d.BlockSize, d.HashSize, d.Offset)
	options, hash, _ := cutLast(d.Parameters(), " ")
	e.VeritySetup = fmt.Sprintf("veritysetup open %s %s NAME %s %s", options, shellWord(e.Source), shellWord(e.Source), hash)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// shellWord quotes a path for a shell.
func shellWord(s string) string {
	if strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@", r)
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (e *explanation) fields() output.Fields {
	typ := e.Type
	if typ == "" {
		typ = `"", for nydus-image-fs`
	}
	var fields output.Fields
	fields.AddIf("key", e.Key)
	fields.AddIf("kind", e.Kind+" of type "+typ)
	fields.AddIf("meaning", e.Meaning)
	fields.AddIf("source", e.Source)
	fields.AddIf("file system", e.FSType)
	fields.AddIf("options", strings.Join(e.Options, ","))
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		fields.AddIf("metadata", key+"="+e.Metadata[key])
	}
	verity := e.Verity
	if verity == "" && strings.Contains(e.Meaning, "disk") {
		verity = "none: whoever can write the file can change what the container reads"
	}
	fields.AddIf("dm-verity", verity)
	fields.AddIf("to open it", e.VeritySetup)
	fields.AddIf("Kata, Go runtime", e.GoRuntime)
	fields.AddIf("Kata, runtime-rs", e.RuntimeRS)
	fields.AddIf("crio-erofs", e.Here)
	return fields
}
