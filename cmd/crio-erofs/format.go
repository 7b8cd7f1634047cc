package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// outputFormat is the value of --format.
type outputFormat string

const (
	formatTable outputFormat = "table"
	formatJSON  outputFormat = "json"
)

var _ pflag.Value = (*outputFormat)(nil)

func (f *outputFormat) String() string { return string(*f) }
func (f *outputFormat) Type() string   { return "FORMAT" }

func (f *outputFormat) Set(s string) error {
	switch outputFormat(s) {
	case formatTable, formatJSON:
		*f = outputFormat(s)
		return nil
	}
	return fmt.Errorf("must be one of (%s|%s)", formatTable, formatJSON)
}

func addFormatFlag(flags *pflag.FlagSet, f *outputFormat) {
	*f = formatTable
	flags.Var(f, "format", "what to print: table, or json")
}

// field is a line of a table.
type field struct {
	name  string
	value any
}

func printFields(w io.Writer, fields []field) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		fmt.Fprintf(tw, "%s\t%v\n", f.name, f.value)
	}
	return tw.Flush()
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// report is what build prints: a volume's description in one level, since scripts want it so.
type report struct {
	RootHash      string        `json:"root_hash,omitempty"`
	Layout        volume.Layout `json:"layout"`
	FormatVersion int           `json:"format_version"`
	Size          int64         `json:"size"`
	DataBlockSize uint32        `json:"data_block_size,omitempty"`
	DataBlocks    uint64        `json:"data_blocks,omitempty"`
	HashOffset    uint64        `json:"hash_offset,omitempty"`
	DiffID        string        `json:"diff_id,omitempty"`
}

func newReport(d *volume.Description) report {
	r := report{Layout: d.Layout, FormatVersion: d.FormatVersion, Size: d.Size, DiffID: d.DiffID}
	if v := d.Verity; v != nil {
		r.RootHash, r.DataBlockSize, r.DataBlocks, r.HashOffset = v.RootHash, v.DataBlockSize, v.DataBlocks, v.HashOffset
	}
	return r
}

func (r report) fields() []field {
	fields := []field{
		{"layout", r.Layout},
		{"format_version", r.FormatVersion},
		{"size", bytesText(r.Size)},
	}
	if r.RootHash == "" {
		fields = append(fields, field{"root_hash", "none: the volume has no verity tree"})
	} else {
		fields = append(fields, field{"root_hash", r.RootHash}, field{"data_block_size", r.DataBlockSize},
			field{"data_blocks", r.DataBlocks}, field{"hash_offset", r.HashOffset})
	}
	if r.DiffID != "" {
		fields = append(fields, field{"diff_id", r.DiffID})
	}
	return fields
}

// bytesText gives a size in bytes, and large ones in a unit that people can read, too.
func bytesText(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	f, unit := float64(n), ""
	for _, u := range units {
		if f < 1024 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "" {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d (%s %s)", n, strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0"), unit)
}
