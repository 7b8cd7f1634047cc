package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
)

// tamper flips one byte in a copy of the store and shows who notices.
func (d *demo) tamper(ctx context.Context) (err error) {
	d.step("One byte of a volume is flipped, in a copy of the store that another CRI-O uses")
	copied := filepath.Join(d.dir, "b")
	if err := d.server.CopyStore(ctx, copied); err != nil {
		return err
	}
	server, err := d.startCRIO(ctx, copied)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	d.call(filepath.Join(copied, "graphroot/erofs"), "<copy>")
	if err := d.flip(filepath.Join(copied, "graphroot")); err != nil {
		return err
	}
	volumes, err := d.believed(ctx, server)
	if err != nil {
		return err
	}
	if err := d.refused(ctx, server); err != nil {
		return err
	}
	d.say("crio-erofs verify, for each volume of the copy:")
	if err := d.verify(ctx, volumes); err == nil {
		return errors.New("crio-erofs verify accepts the damaged volume")
	}
	d.say("and for each volume of the store that it was copied from:")
	for i := range volumes {
		volumes[i].Path = strings.Replace(volumes[i].Path, copied, d.server.Dir(), 1)
	}
	return d.verify(ctx, volumes)
}

// verify runs "crio-erofs verify" for each volume and shows what it says.
func (d *demo) verify(ctx context.Context, volumes []volume.ManifestVolume) error {
	program, err := env.Bin("crio-erofs")
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range volumes {
		out, err := exec.CommandContext(ctx, program, "verify", "--root-hash", v.Verity.RootHash, v.Path).CombinedOutput()
		if err != nil {
			d.lines(strings.TrimPrefix(string(out), "crio-erofs: "))
			errs = append(errs, fmt.Errorf("crio-erofs verify %s: %w", v.Path, err))
			continue
		}
		d.lines(v.Path + ": ok")
	}
	return errors.Join(errs...)
}

// flip changes "EROFS" to "eROFS" where the text of /etc/motd is stored.
func (d *demo) flip(graphRoot string) error {
	volumes, err := filepath.Glob(filepath.Join(graphRoot, "erofs/volumes/*", volume.FileName))
	if err != nil {
		return err
	}
	for _, path := range volumes {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(content, []byte(motd))
		if at < 0 {
			continue
		}
		at += strings.Index(motd, "EROFS")
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{content[at] ^ 0x20}, int64(at)); err != nil {
			return err
		}
		d.lines(path)
		d.lines(fmt.Sprintf("byte %d: %q becomes %q", at, content[at], content[at]^0x20))
		return f.Close()
	}
	return fmt.Errorf("no volume in %s has the text of /etc/motd", graphRoot)
}

// believed shows that the host, which mounts volumes without dm-verity, takes the changed byte for good. It returns
// the volumes that the container was made of.
func (d *demo) believed(ctx context.Context, server *crio.Server) ([]volume.ManifestVolume, error) {
	d.say("runc on the host trusts its own disk, and reads the changed text:")
	pod, err := server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerRunc})
	if err != nil {
		return nil, err
	}
	c, result, err := pod.Run(ctx, crio.ContainerOptions{Image: d.image, Command: []string{"cat", "/etc/motd"}})
	if err != nil {
		return nil, err
	}
	d.command("cat /etc/motd", result)
	if want := strings.Replace(motd, "EROFS", "eROFS", 1); result.Stdout != want {
		return nil, fmt.Errorf("the container should have printed %q", want)
	}
	manifest, err := d.manifest(ctx, c)
	if err != nil {
		return nil, err
	}
	return manifest.Volumes, pod.Remove(ctx)
}

// refused shows that the guest does not read the changed block.
func (d *demo) refused(ctx context.Context, server *crio.Server) error {
	d.say("The guest trusts the root hash only, and refuses the block:")
	pod, err := server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM})
	if err != nil {
		return err
	}
	_, result, err := pod.Run(ctx, crio.ContainerOptions{Image: d.image, Command: []string{"cat", "/etc/motd"}})
	if err != nil {
		return err
	}
	d.command("cat /etc/motd", result)
	if result.ExitCode == 0 || result.Stdout != "" || !strings.Contains(result.Stderr, "Input/output error") {
		return errors.New("the guest should have failed with EIO (Input/output error) and printed nothing")
	}
	info, err := pod.GuestInfo(ctx)
	if err != nil {
		return err
	}
	for _, dm := range info.DM {
		if dm.Status == "C" { // "corruption was seen" (verity.rst)
			d.lines("dm-verity in the guest: " + dm.Name + "  status C (corrupted)")
			return pod.Remove(ctx)
		}
	}
	return fmt.Errorf("no dm-verity device of the guest says that it saw corruption: %+v", info.DM)
}
