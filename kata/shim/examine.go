package shim

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// Examination is what this shim would find behind itself if CRI-O started it for a handler.
type Examination struct {
	Real    string // the real shim's program
	Runtime string // what it says that it is: "Rust" or "Golang" as Kata has it; empty if it does not say that it is Kata's
	Version string
	Said    string // how the program ended and what it printed

	// Target is what Kata's configuration says; TargetErr why it could not be read.
	Target    kata.Target
	TargetErr error
}

// Examine finds the real shim of a handler, from the environment that CRI-O has, and asks it what it is. program is the
// path of the handler's shim, configPath CRI-O's runtime_config_path.
func Examine(ctx context.Context, program string, h *modes.Handler, configPath string) (*Examination, error) {
	real, err := findReal(program, h.Name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out := runReal(ctx, real, []string{"--version"})
	if ctx.Err() != nil {
		out.err = fmt.Errorf("no answer in %v", versionTimeout.Round(time.Second))
	}
	_, id, err := identify(real, out, os.Getenv(envAssumeVersion))
	if err != nil {
		return nil, err
	}
	e := &Examination{Real: real, Runtime: id.kind, Version: id.version, Said: id.said}
	var d decider
	e.Target, e.TargetErr = d.target(h, createRequest{configPath: configPath})
	return e, nil
}

// Dialect returns what the real shim would be told, and an error if it cannot give a container this mode: by what it is, or
// by what Kata's configuration says.
func (e *Examination) Dialect(h *modes.Handler, mode kata.Mode) (kata.Dialect, error) {
	id := identity{program: e.Real, kind: e.Runtime, version: e.Version, said: e.Said}
	d, err := dialectOf(h.Dialect, id, mode)
	if err != nil {
		return "", err
	}
	if e.TargetErr != nil {
		return d, e.TargetErr
	}
	_, err = d.Rootfs(sampleRequest(mode, e.Target))
	return d, err
}

// sampleRequest asks for the rootfs of an image that has two layers, as images have.
func sampleRequest(mode kata.Mode, target kata.Target) *kata.RootfsRequest {
	r := &kata.RootfsRequest{
		Mode: mode, Target: target, EmptyFile: "/empty", Image: pauseImage, Metadata: map[string]string{},
		HostMount: func(path string) (string, error) { return path, nil },
	}
	n := 0
	switch mode {
	case kata.ModeImage, kata.ModeImageVerity:
		n = 1
	case kata.ModeLayer, kata.ModeLayerVerity:
		n = 2
	}
	for i := range n {
		v := volume.ManifestVolume{Path: fmt.Sprintf("/volumes/%d/%s", i, volume.FileName)}
		v.Layout, v.FormatVersion, v.Size = volume.LayoutAligned, 1, 3*kataBlock
		if mode.Verity() {
			v.Verity = &volume.Verity{RootHash: fmt.Sprintf("%064d", i+1), Algorithm: "sha256", HashType: 1,
				DataBlockSize: kataBlock, HashBlockSize: kataBlock, DataBlocks: 1, HashOffset: kataBlock, TreeOffset: 2 * kataBlock}
		}
		r.Volumes = append(r.Volumes, v)
	}
	return r
}

// kataBlock is the only size of blocks that Kata's agent verifies (src/agent/src/storage/multi_layer_erofs.rs).
const kataBlock = 4096
