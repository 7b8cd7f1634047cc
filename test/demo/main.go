// Command demo shows an image's whole way: from a registry, through CRI-O, under runc and into a VM whose guest
// verifies what it runs. It starts all that it needs, in a private folder, and takes it away again.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

func main() {
	logrus.SetLevel(logrus.WarnLevel)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: failed: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("\ndemo: ok")
}

// demo is what the steps share.
type demo struct {
	printer
	dir      string
	standIn  env.StandIn
	registry *env.Registry
	pause    string // reference of the pods' own image
	image    string // reference of the image that is shown
	server   *crio.Server
}

// run shows all steps and takes away what they started, whatever became of them.
func run(ctx context.Context, out io.Writer) (err error) {
	if os.Getuid() != 0 {
		return errors.New("CRI-O needs root: run 'sudo make demo'")
	}
	dir, err := os.MkdirTemp("", "erofs-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{printer: printer{out: out}, dir: dir}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	defer d.registry.Stop()
	d.server, err = d.startCRIO(ctx, filepath.Join(dir, "a"))
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.server.Close())
		d.step("Cleaned up: pods, mounts, CRI-O, registry")
	}()
	for _, step := range []func(context.Context) error{d.pull, d.underRunc, d.inVM, d.tamper} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare builds what is run and shown, and starts the registry.
func (d *demo) prepare(ctx context.Context) error {
	d.step("Prepare: Debian packages become images, a Debian kernel becomes a guest (kept in .cache)")
	cache, err := env.Cache()
	if err != nil {
		return err
	}
	if d.standIn, err = env.BuildStandIn(ctx); err != nil {
		return err
	}
	if d.registry, err = env.StartRegistry(ctx, filepath.Join(d.dir, "registry")); err != nil {
		return err
	}
	if d.pause, err = images.Pause.Push(ctx, cache, d.registry.Address); err == nil {
		d.image, err = images.Small.Push(ctx, cache, d.registry.Address)
	}
	if err != nil {
		d.registry.Stop()
		return err
	}
	d.item("registry", d.registry.Address)
	d.item("image", d.image)
	return nil
}

// startCRIO starts a CRI-O in a folder of its own.
func (d *demo) startCRIO(ctx context.Context, dir string) (*crio.Server, error) {
	return crio.Start(ctx, crio.Options{
		Dir: dir, Registry: d.registry.Address, PauseImage: d.pause, StandIn: &d.standIn,
	})
}
