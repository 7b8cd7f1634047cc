package env

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/test/standin/guest"
)

// StandIn is the stand-in for Kata: its shim, and the folder with the guest that the shim boots.
type StandIn struct {
	Shim  string
	Guest string
}

// BuildStandIn makes the stand-in in the cache, or finds that nothing changed.
func BuildStandIn(ctx context.Context) (StandIn, error) {
	root, err := Root()
	if err != nil {
		return StandIn{}, err
	}
	cache, err := Cache()
	if err != nil {
		return StandIn{}, err
	}
	s := StandIn{
		Shim:  filepath.Join(cache, "standin", "containerd-shim-kata-v2"),
		Guest: filepath.Join(cache, "guest"),
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", s.Shim,
		"./test/standin/cmd/containerd-shim-kata-v2")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return StandIn{}, fmt.Errorf("build the stand-in's shim: %w: %s", err, out)
	}
	if _, err := guest.Build(ctx, s.Guest, root); err != nil {
		return StandIn{}, fmt.Errorf("build the stand-in's guest: %w", err)
	}
	return s, nil
}

// Environment returns the variables that the shim needs to find its guest, and those with which the interposer takes a
// program for Kata that does not call itself so. The stand-in follows runtime-rs 4.1.0.
func (s StandIn) Environment() []string {
	return []string{guest.EnvDir + "=" + s.Guest, "CRIO_EROFS_ASSUME_RUNTIME_RS=4.1.0"}
}
