package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

// maxDocument bounds a manifest and a configuration.
const maxDocument = 4 << 20

// runImage checks the volumes of an image against its digest, with nothing measured.
func (o *verifyOptions) runImage(ctx context.Context, stdout io.Writer, paths []string) error {
	if o.rootHash != "" || o.diffID != "" {
		return cli.Usage(errors.New("--image says what the volumes must be; leave --root-hash and --diff-id out"))
	}
	var documents [][]byte
	for _, path := range o.documents {
		b, err := safefile.Read(path, maxDocument)
		if err != nil {
			return err
		}
		documents = append(documents, b)
	}
	diffIDs, err := measure.DiffIDs(o.image, documents...)
	if err != nil {
		return err
	}
	stack := measure.TarfsStack(diffIDs)
	if len(stack) != len(paths) {
		return fmt.Errorf("image %s has %d volumes, given are %d: all of them, the lowest first, a layer that is there twice once, "+
			"as the upper one", o.image, len(stack), len(paths))
	}
	verdicts := make([]verdict, len(paths))
	table := output.NewTable(output.Column{Name: "VOLUME"}, output.Column{Name: "ROOT HASH"}, output.Column{Name: "VERIFIED"})
	for i, path := range paths {
		v, err := verifyLayer(ctx, path, stack[i])
		if err != nil {
			return fmt.Errorf("%s, volume of layer %s: %w", path, stack[i], err)
		}
		verdicts[i] = v
		table.Add(path, v.RootHash, output.Good("ok"))
	}
	return o.format.Print(stdout, verdicts, table)
}

func verifyLayer(ctx context.Context, path, diffID string) (v verdict, err error) {
	f, size, err := cli.OpenVolume(path)
	if err != nil {
		return verdict{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	root, err := measure.VerifyTarfs(ctx, f, size, diffID)
	return verdict{OK: err == nil, RootHash: root, DiffID: diffID, Size: size}, err
}
