package crio_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestCommand uses crio-erofs beside a CRI-O that runs containers: what it says fits, and what it does harms nobody.
func TestCommand(t *testing.T) {
	server := start(t, func(o *crio.Options) { o.StorageOptions = []string{"erofs.image_volume=copy"} })
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	container := startSleeper(t, pod, ref)
	run := func(args ...string) string {
		t.Helper()
		out := runCommand(t, append(args, "--graphroot", server.GraphRoot(), "--runroot", filepath.Join(server.Dir(), "runroot"))...)
		t.Logf("$ crio-erofs %s\n%s", strings.Join(args, " "), out)
		return out
	}
	name := ref[strings.LastIndex(ref, "/")+1:]
	var images []struct {
		Names       []string
		Size        int64
		ImageVolume string `json:"image_volume"`
		Uses        map[string]int
	}
	if err := json.Unmarshal([]byte(run("store", "ls", "--format", "json")), &images); err != nil || len(images) != 2 {
		t.Fatalf("%v, %+v", err, images)
	}
	for _, img := range images {
		if img.Size == 0 || img.ImageVolume == "" || len(img.Uses) != 1 {
			t.Errorf("%+v", img)
		}
	}
	var c struct {
		Pod      string
		Mounted  bool
		Mounts   []any
		Manifest struct{ Volumes []any }
	}
	if err := json.Unmarshal([]byte(run("inspect", "--format", "json", container.ID[:13])), &c); err != nil || !c.Mounted || c.Pod == "" ||
		len(c.Manifest.Volumes) < 2 {
		t.Errorf("%v, %+v", err, c)
	}
	for _, args := range [][]string{{"inspect", container.ID[:13]}, {"inspect", name}, {"store", "ls"}, {"store", "ls", "--volumes"},
		{"store", "df"}, {"ls", "-l", name, "/etc/motd"}} {
		run(args...)
	}
	if out := run("cat", name, "/etc/motd"); out != "This file came out of an EROFS volume.\n" {
		t.Error(out)
	}
	for _, args := range [][]string{{"store", "prune", "--dry-run", "--all"}, {"store", "prune", "--all"}} {
		if out := run(args...); !strings.Contains(out, ": 0, 0 B") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if r := must[crio.Result](t)(container.Exec(ctx, "cat", "/etc/motd")); r.ExitCode != 0 || !strings.HasPrefix(r.Stdout, "This file") {
		t.Errorf("after prune: %+v", r)
	}
	if err := pod.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if out := run("store", "prune", "--all"); !strings.Contains(out, "no container of its image is there") {
		t.Error(out)
	}
	_, result, err := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{})).Run(ctx,
		crio.ContainerOptions{Image: ref, Command: []string{"cat", "/etc/motd"}})
	if err != nil || !strings.HasPrefix(result.Stdout, "This file") {
		t.Errorf("the next container: %v, %+v", err, result)
	}
}

// checkCommand asks crio-erofs in which mode and by which handler a container in a VM has its image.
func checkCommand(t *testing.T, server *crio.Server, c *crio.Container) {
	t.Helper()
	flags := []string{"--graphroot", server.GraphRoot(), "--runroot", filepath.Join(server.Dir(), "runroot")}
	out := runCommand(t, append(flags, "inspect", "--format", "{{.Mode}} {{.Handler}} {{len .Annotations}}", c.ID)...)
	if fields := strings.Fields(out); len(fields) != 3 || !strings.HasSuffix(fields[0], "-verity") || fields[1] != crio.HandlerVM ||
		fields[2] == "0" {
		t.Errorf("inspect: %s", out)
	}
	mode := strings.Fields(out)[0]
	if ls := runCommand(t, append(flags, "store", "ls")...); !strings.Contains(ls, mode+" ("+crio.HandlerVM+")") {
		t.Error(ls)
	}
}

// runCommand runs bin/crio-erofs and returns what it prints.
func runCommand(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(must[string](t)(env.Bin("crio-erofs")), args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("crio-erofs %s: %v: %s%s", strings.Join(args, " "), err, out, exit.Stderr)
	}
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(out)
}

// TestCommandSplit: images are in a store of their own.
func TestCommandSplit(t *testing.T) {
	server := start(t, func(o *crio.Options) { o.ImageStore = true })
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	container := startSleeper(t, pod, ref)
	flags := []string{"--graphroot", server.GraphRoot(), "--images", server.ImageRoot(), "--runroot", filepath.Join(server.Dir(), "runroot")}
	name := ref[strings.LastIndex(ref, "/")+1:]
	if out := runCommand(t, append(flags, "store", "ls")...); !strings.Contains(out, name) || !strings.Contains(out, "1 host mount") {
		t.Error(out)
	}
	if out := runCommand(t, append(flags, "inspect", "--format", "{{.Mounted}} {{len .Manifest.Volumes}} {{len .Mounts}}", container.ID)...); !strings.HasPrefix(out, "true 3 ") || strings.HasSuffix(out, " 1\n") {
		t.Error(out)
	}
	if out := runCommand(t, append(flags, "cat", container.ID, "/etc/motd")...); out != "This file came out of an EROFS volume.\n" {
		t.Error(out)
	}
	if out := runCommand(t, append(flags, "store", "prune", "--all")...); out != "removed: 0, 0 B\n" {
		t.Errorf("prune while a container runs: %s", out)
	}
	if err := server.RemoveAllPods(ctx); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(server.ImageRoot(), "erofs/tmp/1")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if out := runCommand(t, append(flags, "store", "prune", "--all")...); !strings.Contains(out, left) {
		t.Errorf("prune without containers: %s", out)
	}
	pod = must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	if _, r, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}}); err != nil || r.ExitCode != 0 {
		t.Errorf("a container after prune: %+v, %v", r, err)
	}
}
