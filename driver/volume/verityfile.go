package volume

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

// verityFile is what stands in a volume's VerityFileName: the JSON that containerd's EROFS snapshotter writes and
// Kata's runtime-rs reads (kata src/libs/kata-types/src/gpt_disk.rs). hashoffset is where the superblock is. The salt
// is always there: without it runtime-rs takes 32 zero bytes for the salt of an unsalted tree.
type verityFile struct {
	RootHash   string  `json:"roothash"`
	HashOffset uint64  `json:"hashoffset"`
	Salt       *string `json:"salt"`
}

// WriteVerityFile writes the file that tells Kata's runtime-rs how to open a volume. It does not sync it.
func WriteVerityFile(path string, v *Verity) error {
	b, err := VerityFile(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// VerityFile returns what WriteVerityFile writes.
func VerityFile(v *Verity) ([]byte, error) {
	b, err := json.Marshal(verityFile{RootHash: v.RootHash, HashOffset: v.HashOffset, Salt: &v.Salt})
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// CheckVerityFile returns an error unless r has, byte for byte, what WriteVerityFile writes for v: in anything else another
// reader of JSON could find other values, by a second key or one of another case.
func CheckVerityFile(r io.Reader, v *Verity) error {
	const most = 4096
	b, err := safefile.ReadAtMost(r, most)
	if err != nil {
		return err
	}
	want, err := VerityFile(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, want) {
		return fmt.Errorf("it says %.300q, which is not what the driver has written for root hash %s", b, v.RootHash)
	}
	return nil
}
