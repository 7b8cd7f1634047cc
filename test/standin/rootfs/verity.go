package rootfs

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

const (
	// optVerity names a JSON file with the verity parameters of a mount's source (gpt_disk.rs, X_CONTAINERD_DMVERITY).
	optVerity = "X-containerd.dmverity="

	// maxMetadataSize of that file (gpt_disk.rs, MAX_DMVERITY_METADATA_SIZE).
	maxMetadataSize = 65536

	// verityMagic starts dm-verity's superblock.
	verityMagic = "verity\x00\x00"
)

// defaultSalt is containerd's: 32 zero bytes (gpt_disk.rs, CONTAINERD_DEFAULT_DMVERITY_SALT).
var defaultSalt = strings.Repeat("0", 64)

// metadata is gpt_disk.rs's DmVerityMetadata. Pointers tell a missing key from an empty one.
type metadata struct {
	RootHash   *string `json:"roothash"`
	HashOffset *uint64 `json:"hashoffset"`
	Salt       *string `json:"salt"`
}

// readMetadata is parse_dmverity_metadata_file.
func readMetadata(path string) (*metadata, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("failed to stat dm-verity metadata file: %w", err)
	}
	if fi.Size() > maxMetadataSize {
		return nil, fmt.Errorf("dm-verity metadata file too large: %d bytes (max %d)", fi.Size(), maxMetadataSize)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("failed to read dm-verity metadata file: %w", err)
	}
	m := &metadata{}
	err = json.Unmarshal(b, m)
	if err == nil && (m.RootHash == nil || m.HashOffset == nil) {
		err = errors.New("roothash or hashoffset is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("failed to parse dm-verity metadata JSON %s: %w", path, err)
	}
	return m, nil
}

// verityOptions makes the options that tell the agent to verify a partition (gpt_disk.rs,
// generate_dmverity_options). A mount without optVerity gets none: it is mounted unverified, as under Kata.
func verityOptions(mountOptions []string, source string) ([]string, error) {
	path := ""
	for _, opt := range mountOptions { // the last one wins, as in the map that erofs_rootfs.rs makes of them
		if value, ok := strings.CutPrefix(opt, optVerity); ok {
			path = value
		}
	}
	if path == "" {
		return nil, nil
	}
	m, err := readMetadata(path)
	if err != nil {
		return nil, err
	}
	super := readSuperblock(source, *m.HashOffset)
	return []string{
		agentapi.OptVerityEnabled,
		agentapi.OptVerityRootHash + *m.RootHash,
		fmt.Sprintf("%s%d", agentapi.OptVerityHashOffset, *m.HashOffset),
		fmt.Sprintf("%s%t", agentapi.OptVerityNoSuper, super == nil),
		agentapi.OptVeritySalt + salt(m, super),
	}, nil
}

// salt is the metadata's if it has one, and be it empty; else that of the superblock; else containerd's default. A
// superblock with an empty salt counts as none: an unsalted volume needs "salt": "" in its metadata.
func salt(m *metadata, super []byte) string {
	if m.Salt != nil {
		return *m.Salt
	}
	if s := superblockSalt(super); s != "" {
		return s
	}
	return defaultSalt
}

// Offsets in dm-verity's superblock (cryptsetup lib/verity/verity.c, struct verity_sb).
const (
	superVersion  = 8
	superSaltSize = 80
	superSalt     = 88
	superMaxSalt  = 256
)

// readSuperblock returns the superblock, or nil if there is none (gpt_disk.rs, has_verity_superblock: only its first
// 8 bytes count).
func readSuperblock(path string, offset uint64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, superSalt+superMaxSalt)
	n, err := f.ReadAt(b, int64(offset))
	if (err != nil && !errors.Is(err, io.EOF)) || n < len(verityMagic) || string(b[:len(verityMagic)]) != verityMagic {
		return nil
	}
	return b[:n]
}

// superblockSalt is read_verity_superblock_salt.
func superblockSalt(super []byte) string {
	if len(super) < superSalt || binary.LittleEndian.Uint32(super[superVersion:]) != 1 {
		return ""
	}
	size := int(binary.LittleEndian.Uint16(super[superSaltSize:]))
	if size > superMaxSalt || superSalt+size > len(super) {
		return ""
	}
	return hex.EncodeToString(super[superSalt : superSalt+size])
}
