package matrix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/realkata/install"
)

// What a case says of dm-verity.
const (
	enforced    = "enforced"
	notEnforced = "not enforced"
	none        = "-"
)

// testCase is one case. run returns whether the guest enforces dm-verity, as it was seen to do.
type testCase struct {
	name   string
	verity string // what it has to be
	copies bool   // the store has image volumes: copies, as every file system can have them
	run    func(ctx context.Context, b *bench) (verity string, err error)
}

func cases(r install.Runtime) []testCase {
	if r.Kind == install.Go {
		return goCases()
	}
	return []testCase{
		{"layers, verity", enforced, false, func(ctx context.Context, b *bench) (string, error) {
			return b.container(ctx, small, kata.ModeLayerVerity)
		}},
		{"one layer, verity", enforced, false, func(ctx context.Context, b *bench) (string, error) {
			return b.container(ctx, single, kata.ModeImageVerity)
		}},
		{"128 layers, verity", enforced, false, func(ctx context.Context, b *bench) (string, error) {
			return b.container(ctx, deep, kata.ModeLayerVerity)
		}},
		{"image, verity", enforced, true, func(ctx context.Context, b *bench) (string, error) {
			return b.container(ctx, small, kata.ModeImageVerity)
		}},
		{"CRI-O restarted", enforced, false, restarted},
		{"two modes in a pod", enforced, false, twoModes},
		{"process", none, false, process},
		{"layers, verity: data changed", enforced, false, func(ctx context.Context, b *bench) (string, error) {
			return b.damagedData(ctx, small)
		}},
		{"one layer, verity: data changed", enforced, false, func(ctx context.Context, b *bench) (string, error) {
			return b.damagedData(ctx, single)
		}},
		{"image, verity: data changed", enforced, true, func(ctx context.Context, b *bench) (string, error) {
			return b.damagedData(ctx, small)
		}},
		{"layers, verity: superblock changed", enforced, false, func(ctx context.Context, b *bench) (string, error) {
			return b.damagedSuperblock(ctx, small)
		}},
		plain("layers", kata.ModeLayer, false),
		plain("image", kata.ModeImage, true),
	}
}

// goCases are those of Kata's Go runtime. It takes volumes only as they are mounted on the host, and that is the image's
// volume where there is one.
func goCases() []testCase {
	return []testCase{
		{"layers, verity: refused", none, false, refused},
		plain("layers", kata.ModeLayer, false),
		plain("image", kata.ModeImage, true),
		{"process", none, false, func(ctx context.Context, b *bench) (string, error) {
			return none, b.configured(kata.ModeLayer, func() error {
				_, err := process(ctx, b)
				return err
			})
		}},
	}
}

// plain is the case of a mode without verity.
func plain(what string, mode kata.Mode, copies bool) testCase {
	return testCase{what + ", no verity", none, copies, func(ctx context.Context, b *bench) (string, error) {
		verity := none
		err := b.configured(mode, func() (err error) {
			verity, err = b.container(ctx, small, mode)
			return err
		})
		return verity, err
	}}
}

// configured does something while the handler has one mode only.
func (b *bench) configured(mode kata.Mode, do func() error) error {
	config, err := os.ReadFile(b.server.ConfigFile())
	if err != nil {
		return err
	}
	text := fmt.Sprintf("[handlers.%s]\nmodes = [%q]\n", crio.HandlerVM, mode)
	if err := b.server.SetConfig(text); err != nil {
		return err
	}
	return errors.Join(do(), b.server.SetConfig(string(config)))
}

// process is about what a container's process sees, and about its end for want of memory.
func process(ctx context.Context, b *bench) (string, error) {
	pod, refs, err := b.pod(ctx, small)
	if err != nil {
		return none, err
	}
	return none, errors.Join(pod.Probe(ctx, refs[0], filepath.Join(b.opts.Dir, "volumes")), pod.ProbeOOM(ctx, refs[0], crio.OOMChild))
}

// twoModes gives a container its image unverified in a pod whose other containers have theirs verified.
func twoModes(ctx context.Context, b *bench) (string, error) {
	pod, refs, err := b.pod(ctx, small)
	if err != nil {
		return none, err
	}
	verified, err := sleeper(ctx, pod, refs[0])
	if err != nil {
		return none, err
	}
	err = b.configured(kata.ModeLayer, func() error {
		c, err := sleeper(ctx, pod, refs[0])
		if err != nil {
			return err
		}
		spec, err := c.Spec(ctx)
		if err != nil {
			return err
		}
		seen, err := look(ctx, c)
		if err != nil {
			return err
		}
		if strings.Contains(seen.root, "kata-verity") || spec.Annotations[kata.AnnotationMode] != string(kata.ModeLayer) {
			return fmt.Errorf("the unverified container has mode %q and root %q", spec.Annotations[kata.AnnotationMode], seen.root)
		}
		return nil
	})
	if err != nil {
		return none, err
	}
	return judge(ctx, pod, verified)
}

// Images that the cases run.
const (
	small  = "small"      // three layers
	single = "small-flat" // one layer
	deep   = "small-deep" // kata.MaxRootfsVolumes layers
)

const motd = "This file came out of an EROFS volume.\n"

// container runs a container, and one that stays to be looked at.
func (b *bench) container(ctx context.Context, image string, mode kata.Mode) (string, error) {
	pod, refs, err := b.pod(ctx, image)
	if err != nil {
		return none, err
	}
	_, result, err := pod.Run(ctx, crio.ContainerOptions{
		Image: refs[0], Command: []string{"sh", "-c", "cat /etc/motd; echo new > /new && cat /new >&2; exit 7"},
	})
	if err != nil {
		return none, err
	}
	if result.Stdout != motd || result.Stderr != "new\n" || result.ExitCode != 7 {
		return none, fmt.Errorf("the container left %+v", result)
	}
	c, err := sleeper(ctx, pod, refs[0])
	if err != nil {
		return none, err
	}
	spec, err := c.Spec(ctx)
	if err != nil {
		return none, err
	}
	if got := spec.Annotations[kata.AnnotationMode]; got != string(mode) {
		return none, fmt.Errorf("the container has mode %q, not %s", got, mode)
	}
	return judge(ctx, pod, c)
}

// judge compares what the guest has with the host's manifests of a pod and of its running container.
func judge(ctx context.Context, pod *crio.Pod, c *crio.Container) (string, error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return none, err
	}
	manifest, err := volume.ReadManifest(spec.Root.Path)
	if err != nil {
		return none, err
	}
	seen, err := look(ctx, c)
	if err != nil {
		return none, err
	}
	logrus.Infof("in the guest: root %q, device mapper %q", seen.root, seen.names)
	mode := kata.Mode(spec.Annotations[kata.AnnotationMode])
	volumes := modes.Volumes(mode, manifest)
	if !mode.Verity() {
		return none, checkPlain(seen, volumes)
	}
	if err := checkVolumes(seen, volumes); err != nil {
		return notEnforced, err
	}
	if spec, err = pod.Spec(ctx); err != nil {
		return none, err
	}
	if manifest, err = volume.ReadManifest(spec.Root.Path); err != nil {
		return none, err
	}
	if err := checkDevices(seen, manifest.Volumes); err != nil {
		return notEnforced, fmt.Errorf("the sandbox's own container: %w", err)
	}
	return enforced, nil
}

// sleeper starts a container that does nothing.
func sleeper(ctx context.Context, pod *crio.Pod, image string) (*crio.Container, error) {
	c, err := pod.CreateContainer(ctx, crio.ContainerOptions{Image: image, Command: []string{"sleep", "100000"}})
	if err != nil {
		return nil, err
	}
	return c, c.Start(ctx)
}

// restarted kills CRI-O and starts it again while a pod runs: the new one finds the proxy, and the pod takes another
// container.
func restarted(ctx context.Context, b *bench) (string, error) {
	pod, refs, err := b.pod(ctx, small, single)
	if err != nil {
		return none, err
	}
	c, err := sleeper(ctx, pod, refs[0])
	if err != nil {
		return none, err
	}
	b.server.Kill()
	if err := b.server.Run(ctx); err != nil {
		return none, err
	}
	for _, ask := range []func(context.Context) (bool, error){pod.Ready, c.Running} {
		if yes, err := ask(ctx); err != nil || !yes {
			return none, errors.Join(errors.New("CRI-O no longer counts pod and container as running"), err)
		}
	}
	if verity, err := judge(ctx, pod, c); err != nil {
		return verity, err
	}
	if c, err = sleeper(ctx, pod, refs[1]); err != nil {
		return none, err
	}
	return judge(ctx, pod, c)
}

// damagedData changes a byte of a file in a volume and lets a container read it.
func (b *bench) damagedData(ctx context.Context, image string) (string, error) {
	pod, refs, err := b.pod(ctx, image)
	if err != nil {
		return none, err
	}
	undo, err := b.flip(motd[:20])
	if err != nil {
		return none, err
	}
	defer undo()
	_, result, err := pod.Run(ctx, crio.ContainerOptions{Image: refs[0], Command: []string{"cat", "/etc/motd"}})
	switch {
	case err != nil:
		return none, err
	case result.Stdout != "":
		return notEnforced, fmt.Errorf("the guest read a changed block: %q", result.Stdout)
	case result.ExitCode == 0 || !strings.Contains(result.Stderr, "Input/output error"):
		return none, fmt.Errorf("cat left %+v", result)
	}
	return enforced, nil
}

// damagedSuperblock changes EROFS's superblock in a volume: the guest must not mount it.
func (b *bench) damagedSuperblock(ctx context.Context, image string) (string, error) {
	pod, refs, err := b.pod(ctx, image)
	if err != nil {
		return none, err
	}
	undo, err := b.change(func(content []byte) int {
		if bytes.Contains(content, []byte(motd)) {
			return superblockOffset + 16
		}
		return -1
	})
	if err != nil {
		return none, err
	}
	defer undo()
	_, _, err = pod.Run(ctx, crio.ContainerOptions{Image: refs[0], Command: []string{"true"}})
	if err == nil {
		return notEnforced, errors.New("a container started from a volume with a changed superblock")
	}
	logrus.Infof("as it should be: %v", err)
	return enforced, nil
}

// superblockOffset is where EROFS's superblock is (Linux fs/erofs/erofs_fs.h, EROFS_SUPER_OFFSET).
const superblockOffset = 1024

// flip changes one bit of a text wherever a volume of the store has it, and returns what changes it back.
func (b *bench) flip(text string) (undo func(), err error) {
	undo, err = b.change(func(content []byte) int { return bytes.Index(content, []byte(text)) })
	if err != nil {
		err = fmt.Errorf("%w: none has %q", err, text)
	}
	return undo, err
}

// change changes a bit of each volume for whose content at does not return -1.
func (b *bench) change(at func(content []byte) int) (undo func(), err error) {
	files, err := filepath.Glob(filepath.Join(b.server.GraphRoot(), "erofs/volumes/*", volume.FileName))
	if err != nil {
		return nil, err
	}
	var changed []func()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if at := at(content); at >= 0 {
			if err := xor(file, int64(at)); err != nil {
				return nil, err
			}
			changed = append(changed, func() { _ = xor(file, int64(at)) })
		}
	}
	if len(changed) == 0 {
		return nil, errors.New("no volume to change")
	}
	return func() {
		for _, undo := range changed {
			undo()
		}
	}, nil
}

// xor changes the lowest bit of a file's byte.
func xor(file string, at int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return errors.Join(err, f.Close())
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

// refused wants the shim to refuse the sandbox: this runtime cannot verify.
func refused(ctx context.Context, b *bench) (string, error) {
	_, _, err := b.pod(ctx)
	if err == nil {
		return none, errors.New("a pod started on a runtime that cannot verify volumes")
	}
	if !strings.Contains(err.Error(), "Go runtime") {
		return none, err
	}
	return none, nil
}
