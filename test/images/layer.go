package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layer is a folder that becomes one layer of an image. OCI whiteouts are plain files in it (".wh.NAME").
type layer struct {
	name        string
	dir         string
	format      tarFormat
	compression compression.Compression
}

// tarFormat is a format that GNU tar writes.
type tarFormat string

const (
	// formatPAX carries xattrs and exact times; sparse files in "PAX 1.0" form.
	formatPAX tarFormat = "pax"
	// formatGNU has @LongLink entries for long names and the old header of sparse files.
	formatGNU tarFormat = "gnu"
)

// pack makes a tar of the layer with GNU tar, as a witness that does not share our reading of the format.
func (l layer) pack(ctx context.Context, work string) (v1.Layer, error) {
	file := filepath.Join(work, l.name+".tar")
	args := []string{"--create", "--file=" + file, "--directory=" + l.dir, "--numeric-owner", "--sort=name",
		"--sparse", "--format=" + string(l.format)}
	if l.format == formatPAX {
		args = append(args, "--xattrs", "--xattrs-include=*", "--pax-option=delete=atime,delete=ctime")
	}
	if err := run(ctx, nil, "tar", append(args, ".")...); err != nil {
		return nil, err
	}
	mediaType := types.OCILayer
	if l.compression == compression.ZStd {
		mediaType = types.OCILayerZStd
	}
	return tarball.LayerFromFile(file, tarball.WithCompression(l.compression), tarball.WithMediaType(mediaType))
}

// run executes a program. Its output becomes part of the error.
func run(ctx context.Context, env []string, name string, args ...string) error {
	_, err := output(ctx, env, name, args...)
	return err
}

// output executes a program and returns what it wrote to standard output.
func output(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), append(env, "LC_ALL=C")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String() + stdout.String())
		if len(said) > 2000 {
			said = "..." + said[len(said)-2000:]
		}
		return "", fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, said)
	}
	return stdout.String(), nil
}

// architecture returns the image configuration's name for this machine's processor.
func architecture() string { return runtime.GOARCH }
