package source

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
)

// openBlob returns a layer's uncompressed tar.
func (s *Source) openBlob(ctx context.Context, info types.BlobInfo) (io.ReadCloser, error) {
	if err := info.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", info.Digest, err)
	}
	raw, _, err := s.src.GetBlob(ctx, info, none.NoCache)
	if err != nil {
		return nil, err
	}
	b := &blob{raw: raw, sum: info.Digest.Algorithm().Hash(), want: info.Digest, progress: s.opts.Progress}
	if b.plain, _, err = compression.AutoDecompress(readerFunc(b.readRaw)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return b, nil
}

// blob is a layer that is being read, and held against its digest.
type blob struct {
	raw      io.ReadCloser
	plain    io.ReadCloser
	sum      hash.Hash
	want     digest.Digest
	progress func(int64)
	checked  bool
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (b *blob) readRaw(p []byte) (int, error) {
	n, err := b.raw.Read(p)
	b.sum.Write(p[:n]) // never fails
	if b.progress != nil {
		b.progress(int64(n))
	}
	return n, err
}

// Read returns io.EOF only if the whole blob, also what stands behind the compressed stream, is what its digest says.
func (b *blob) Read(p []byte) (int, error) {
	n, err := b.plain.Read(p)
	if !errors.Is(err, io.EOF) || b.checked {
		return n, err
	}
	if _, err := io.Copy(io.Discard, readerFunc(b.readRaw)); err != nil {
		return n, err
	}
	if got := digest.NewDigest(b.want.Algorithm(), b.sum); got != b.want {
		return n, fmt.Errorf("the blob has digest %s, not %s: it was damaged or exchanged on the way", got, b.want)
	}
	b.checked = true
	return n, io.EOF
}

func (b *blob) Close() error {
	return errors.Join(b.plain.Close(), b.raw.Close())
}
