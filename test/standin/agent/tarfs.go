package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// tarfsStack returns the diffIDs that the volumes of a container must have, topmost first, if the guest's owner knows
// images by their digests alone. The image's documents come from the host; measure.DiffIDs believes only what has the
// digests.
func (e *expectation) tarfsStack(spec *specs.Spec) ([]string, error) {
	var documents [][]byte
	for _, key := range agentapi.ImageDocuments {
		documents = append(documents, []byte(spec.Annotations[key]))
	}
	var errs []error
	for _, d := range e.digests {
		diffIDs, err := measure.DiffIDs(d, documents...)
		if err == nil {
			stack := measure.TarfsStack(diffIDs)
			slices.Reverse(stack)
			return stack, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("the guest's init data allow no image with these documents: %w", errors.Join(errs...))
}

// verifyTarfs checks a volume of layout tarfs against its layer's diffID. Its data are read through the dm-verity device
// that was opened with what the host says, so they stay what they were while they were checked; and the root hash that
// follows from the tar must be the one that the device was opened with.
func verifyTarfs(disk, node string, v *verityOptions, diffID string) (err error) {
	data, err := os.Open(node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	whole, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, whole.Close()) }()
	size, err := whole.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	r := &verifiedVolume{data: data, size: int64(v.blocks * v.blockSize), whole: whole}
	root, err := measure.VerifyTarfs(context.Background(), r, size, diffID)
	if err != nil {
		return err
	}
	if root != v.rootHash {
		return fmt.Errorf("the volume was opened with root hash %s, and of its tar follows %s", v.rootHash, root)
	}
	return nil
}

// verifiedVolume is a volume whose data come from its dm-verity device. The rest, superblock and tree, is the host's word.
type verifiedVolume struct {
	data  *os.File
	size  int64 // of the data
	whole *os.File
}

func (r *verifiedVolume) ReadAt(b []byte, offset int64) (int, error) {
	if offset >= r.size {
		return r.whole.ReadAt(b, offset)
	}
	if most := r.size - offset; int64(len(b)) > most {
		n, err := r.data.ReadAt(b[:most], offset)
		if err != nil {
			return n, err
		}
		more, err := r.whole.ReadAt(b[most:], r.size)
		return n + more, err
	}
	return r.data.ReadAt(b, offset)
}
