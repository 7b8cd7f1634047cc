package images

import (
	"context"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Pause is the image of the pods' sandbox containers.
var Pause = Image{
	Name:    "pause",
	Version: "1",
	Config:  v1.Config{Entrypoint: []string{"/pause"}},
	layers: func(ctx context.Context, work string) ([]layer, error) {
		root := filepath.Join(work, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			return nil, err
		}
		if err := run(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags=-s -w",
			"-o", filepath.Join(root, "pause"), "github.com/crio-erofs/crio-erofs/test/images/pause"); err != nil {
			return nil, err
		}
		return []layer{{name: "pause", dir: root, format: formatPAX, compression: compression.GZip}}, nil
	},
}
