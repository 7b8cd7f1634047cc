package volumes

import (
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Report is a volume's description in one level, since scripts want it so.
type Report struct {
	RootHash      string        `json:"root_hash,omitempty"`
	Layout        volume.Layout `json:"layout"`
	FormatVersion int           `json:"format_version"`
	Size          int64         `json:"size"`
	DataBlockSize uint32        `json:"data_block_size,omitempty"`
	DataBlocks    uint64        `json:"data_blocks,omitempty"`
	HashOffset    uint64        `json:"hash_offset,omitempty"`
	DiffID        string        `json:"diff_id,omitempty"`
}

// NewReport returns the report of a volume.
func NewReport(d *volume.Description) Report {
	r := Report{Layout: d.Layout, FormatVersion: d.FormatVersion, Size: d.Size, DiffID: d.DiffID}
	if v := d.Verity; v != nil {
		r.RootHash, r.DataBlockSize, r.DataBlocks, r.HashOffset = v.RootHash, v.DataBlockSize, v.DataBlocks, v.HashOffset
	}
	return r
}

// Fields is what people see of the report.
func (r Report) Fields() output.Fields {
	fields := output.Pairs("layout", r.Layout, "format_version", r.FormatVersion, "size", output.Bytes(r.Size))
	if r.RootHash == "" {
		fields.Add("root_hash", "none: the volume has no verity tree")
	} else {
		fields = append(fields, output.Pairs("root_hash", r.RootHash, "data_block_size", r.DataBlockSize,
			"data_blocks", r.DataBlocks, "hash_offset", r.HashOffset)...)
	}
	fields.AddIf("diff_id", r.DiffID)
	return fields
}
