package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

// motd is what the image's topmost layer has in /etc/motd.
const motd = "This file came out of an EROFS volume.\n"

// pull shows how an image becomes volumes.
func (d *demo) pull(ctx context.Context) error {
	d.step("CRI-O pulls the image: every layer becomes an EROFS volume with a dm-verity tree")
	start := time.Now()
	id, err := d.server.PullImage(ctx, d.image)
	if err != nil {
		return err
	}
	d.item("image id", id)
	d.item("pulled in", time.Since(start).Round(time.Millisecond).String())
	store := filepath.Join(d.server.GraphRoot(), "erofs")
	d.item("store", store+", <store> from here on")
	d.call(store, "<store>")
	return nil
}

// underRunc runs the image as a plain container and shows its volumes.
func (d *demo) underRunc(ctx context.Context) error {
	d.step("The image under runc: an overlay over host mounts of the volumes")
	pod, err := d.server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerRunc})
	if err != nil {
		return err
	}
	c, err := d.runShell(ctx, pod, "cat /etc/motd; uname -r")
	if err != nil {
		return err
	}
	manifest, err := d.manifest(ctx, c)
	if err != nil {
		return err
	}
	d.say("The manifest beside the container's mount point, lowest layer first:")
	rows := [][]string{{"SIZE", "DIFF ID", "ROOT HASH"}}
	for _, v := range manifest.Volumes {
		rows = append(rows, []string{bytesize(v.Size), v.DiffID[:len("sha256:")+12], v.Verity.RootHash})
	}
	d.table(rows)
	d.say("Debian's veritysetup and fsck.erofs agree:")
	for _, v := range manifest.Volumes {
		if err := d.witness(ctx, v); err != nil {
			return err
		}
	}
	return pod.Remove(ctx)
}

// witness has programs that are not ours check a volume.
func (d *demo) witness(ctx context.Context, v volume.ManifestVolume) error {
	for _, args := range [][]string{
		{"veritysetup", "verify", v.Path, v.Path, v.Verity.RootHash, fmt.Sprintf("--hash-offset=%d", v.Verity.HashOffset)},
		{"fsck.erofs", v.Path},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	d.lines("ok  " + v.Path)
	return nil
}

// inVM runs the image in a VM and shows what travelled there and what the guest made of it.
func (d *demo) inVM(ctx context.Context) error {
	d.step(fmt.Sprintf("The same image under the handler %s: in a VM, from virtual disks", crio.HandlerVM))
	d.lines("Kata's shim and agent are played by a stand-in (test/standin). QEMU, the guest's kernel, its dm-verity and\n" +
		"its EROFS are Debian's own.")
	start := time.Now()
	pod, err := d.server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM})
	if err != nil {
		return err
	}
	d.item("pod", pod.ID+", <pod> from here on")
	d.item("started in", time.Since(start).Round(100*time.Millisecond).String()+" (QEMU without KVM)")
	d.call(pod.ID, "<pod>")
	c, err := d.runShell(ctx, pod, "cat /etc/motd; uname -r")
	if err != nil {
		return err
	}
	d.item("container", c.ID+", <container> from here on")
	d.call(c.ID, "<container>")
	if err := d.showAnnotations(ctx, c); err != nil {
		return err
	}
	if err := d.showGuest(ctx, pod, c); err != nil {
		return err
	}
	return pod.Remove(ctx)
}

// showAnnotations prints what the hook put on the request.
func (d *demo) showAnnotations(ctx context.Context, c *crio.Container) error {
	spec, err := c.Spec(ctx)
	if err != nil {
		return err
	}
	d.say("The annotations that the NRI hook put on the request (base64 decoded here):")
	shown := 0
	for _, key := range slices.Sorted(maps.Keys(spec.Annotations)) {
		value := spec.Annotations[key]
		encoded := strings.HasPrefix(key, kata.AnnotationVolumePrefix) ||
			strings.HasPrefix(key, kata.AnnotationExtraOptionPrefix)
		if !encoded && key != kata.AnnotationMode && key != kata.AnnotationRootHash {
			continue
		}
		if encoded {
			json, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return fmt.Errorf("annotation %s: %w", key, err)
			}
			value = string(json)
		}
		d.lines(key + "\n  " + value)
		shown++
	}
	if shown == 0 {
		return fmt.Errorf("container %s has no annotation of ours: is the hook running? See %s", c.ID, d.server.LogFile())
	}
	return nil
}

// showGuest prints what the guest itself says, and checks it against the host's manifest.
func (d *demo) showGuest(ctx context.Context, pod *crio.Pod, c *crio.Container) error {
	info, err := pod.GuestInfo(ctx)
	if err != nil {
		return err
	}
	manifest, err := d.manifest(ctx, c)
	if err != nil {
		return err
	}
	d.say("The guest's own /proc/mounts (Linux %s):", info.Kernel)
	for _, mount := range info.Mounts {
		// A rootfs shows up twice: where Kata's agent mounts it and where the container's process has it.
		fields := strings.Fields(mount)
		if len(fields) > 2 && (fields[2] == "erofs" || fields[2] == "overlay" && strings.Contains(mount, "/passthrough/")) {
			d.lines(mount)
		}
	}
	d.say("The guest's own device-mapper tables (V: every block read so far was verified):")
	tables := ""
	for _, dm := range info.DM {
		d.lines(dm.Name + "  status " + dm.Status + "\n  verity " + dm.Table)
		tables += dm.Table + "\n"
	}
	for _, v := range manifest.Volumes {
		if !strings.Contains(tables, " "+v.Verity.RootHash+" ") {
			return fmt.Errorf("the guest has no dm-verity table with root hash %s", v.Verity.RootHash)
		}
	}
	return nil
}

// runShell runs a script in a container and shows what it says. The container must see the image's file.
func (d *demo) runShell(ctx context.Context, pod *crio.Pod, script string) (*crio.Container, error) {
	c, result, err := pod.Run(ctx, crio.ContainerOptions{Image: d.image, Command: []string{"sh", "-c", script}})
	if err != nil {
		return nil, err
	}
	d.command(script, result)
	if !strings.HasPrefix(result.Stdout, motd) || result.ExitCode != 0 {
		return nil, fmt.Errorf("the container should have printed %q first and exited with 0", motd)
	}
	return c, nil
}

func (d *demo) manifest(ctx context.Context, c *crio.Container) (*volume.Manifest, error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return nil, err
	}
	return volume.ReadManifest(spec.Root.Path)
}
