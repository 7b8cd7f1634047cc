package images

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/crioconfig"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/kata/expected"
	"github.com/crio-erofs/crio-erofs/kata/trust"
	"github.com/crio-erofs/crio-erofs/kata/trust/referrer"
)

// measureFormat is the value of measure's --format.
type measureFormat string

var _ pflag.Value = (*measureFormat)(nil)

// measureFormats are all formats; the first is the default.
var measureFormats = []struct {
	name  measureFormat
	help  string
	print func(w io.Writer, images []*measure.Measurement) error
}{
	{"table", "for people", printMeasureTables},
	{"json", "measurements, one JSON document for each image (docs/measurement.schema.json)", printMeasurements},
	{"dmverity", "the volumes' .dmverity files, one a line: the layers', lowest first, then the image's", printVerityFiles},
	{"veritysetup", "options of veritysetup verify and open for each volume, in that order", printVeritysetup},
	{"kata-volume", "KataVirtualVolumes and the annotations that carry them, one JSON document a line", printVirtualVolumes},
	{"x-kata-options", "options of the storages that Kata's runtime-rs sends to its agent, by partition", printStorageOptions},
	{"rego", "a policy for Kata's agent that lets containers have these images only (contrib/policy)", printRego},
	{"initdata", "Confidential Containers' init data with that policy (TOML)", printInitData},
	{"rvps", "a message with reference values for Trustee's RVPS", printReferenceValues},
	{"in-toto-predicate", "predicates, as for cosign attest --type " + trust.PredicateType, printMeasurements},
	{"in-toto-statement", "unsigned in-toto statements about the images' manifests; attest signs them", printStatements},
	{"oci-referrer", "OCI manifests that refer to the images' and have these statements, one a line", printReferrers},
}

func measureFormatsHelp() string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range measureFormats {
		fmt.Fprintf(tw, "  %s\t%s\n", f.name, f.help)
	}
	tw.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func (f *measureFormat) String() string { return string(*f) }
func (f *measureFormat) Type() string   { return "FORMAT" }

func (f *measureFormat) Set(s string) error {
	names := make([]string, len(measureFormats))
	for i, known := range measureFormats {
		if names[i] = string(known.name); names[i] == s {
			*f = known.name
			return nil
		}
	}
	return fmt.Errorf("must be one of (%s)", strings.Join(names, "|"))
}

func (f *measureFormat) print(w io.Writer, images []*measure.Measurement) error {
	for _, known := range measureFormats {
		if known.name == *f {
			return known.print(w, images)
		}
	}
	return fmt.Errorf("[should never happen] format %q", *f)
}

func printMeasurements(w io.Writer, images []*measure.Measurement) error {
	for _, m := range images {
		if err := output.JSON(w, m); err != nil {
			return err
		}
	}
	return nil
}

func printMeasureTables(w io.Writer, images []*measure.Measurement) error {
	var blocks []output.Block
	for _, m := range images {
		blocks = append(blocks, measureBlocks(m)...)
	}
	return output.Blocks(w, blocks...)
}

func measureBlocks(m *measure.Measurement) []output.Block {
	manifest := m.ManifestDigest
	if manifest == "" {
		manifest = "none: the transport does not keep the image's manifest"
	}
	fields := output.Pairs("image", m.Image, "platform", m.Platform, "manifest_digest", manifest,
		"config_digest", m.ConfigDigest, "layout", m.Layout, "format_version", m.FormatVersion)
	table := output.NewTable(output.Column{Name: "LAYER"}, output.Column{Name: "ROOT HASH"},
		output.Column{Name: "DATA BLOCKS"}, output.Column{Name: "HASH OFFSET"}, output.Column{Name: "SIZE"},
		output.Column{Name: "DIFF ID", Cut: 19})
	for i, l := range m.Layers {
		diffID := l.DiffID
		if l.Copy {
			diffID += " (the volume of a higher layer, too)"
		}
		addVolume(table, i, l.Volume, diffID)
	}
	if m.ImageVolume == nil {
		return []output.Block{fields, table, output.Text("no image volume: " + m.NoImageVolume)}
	}
	addVolume(table, "image", *m.ImageVolume, "")
	return []output.Block{fields, table}
}

func addVolume(t *output.Table, layer any, v measure.Volume, diffID string) {
	t.Add(layer, v.Verity.RootHash, v.Verity.DataBlocks, v.Verity.HashOffset, v.Size, diffID)
}

func printVerityFiles(w io.Writer, images []*measure.Measurement) error {
	for _, m := range images {
		b, err := expected.VerityFiles(m)
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func printVeritysetup(w io.Writer, images []*measure.Measurement) error {
	for _, m := range images {
		if _, err := w.Write(expected.VeritysetupLines(m)); err != nil {
			return err
		}
	}
	return nil
}

func printVirtualVolumes(w io.Writer, images []*measure.Measurement) error {
	enc := json.NewEncoder(w)
	for _, m := range images {
		volumes, err := expected.VirtualVolumes(m, crioconfig.DefaultGraphRoot)
		if err != nil {
			return err
		}
		for _, v := range volumes {
			if err := enc.Encode(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func printStorageOptions(w io.Writer, images []*measure.Measurement) error {
	for _, m := range images {
		s, err := expected.NewImageStorages(m)
		if err != nil {
			return err
		}
		if err := output.JSON(w, s); err != nil {
			return err
		}
	}
	return nil
}

func printRego(w io.Writer, images []*measure.Measurement) error {
	policy, err := expected.Policy(images)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, policy)
	return err
}

func printInitData(w io.Writer, images []*measure.Measurement) error {
	b, err := expected.InitData(images)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func printReferenceValues(w io.Writer, images []*measure.Measurement) error {
	b, err := expected.ReferenceValues(images)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func printReferrers(w io.Writer, images []*measure.Measurement) error {
	for _, m := range images {
		b, err := referrer.NewUnsignedManifest(m)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n", b); err != nil {
			return err
		}
	}
	return nil
}

func printStatements(w io.Writer, images []*measure.Measurement) error {
	for _, m := range images {
		s, err := trust.NewStatement(m)
		if err != nil {
			return err
		}
		if err := output.JSON(w, s); err != nil {
			return err
		}
	}
	return nil
}
