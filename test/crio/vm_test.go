package crio_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// builtStandIn builds the stand-in for Kata once for all tests.
var builtStandIn = sync.OnceValues(func() (env.StandIn, error) { return env.BuildStandIn(context.Background()) })

// startVM starts a CRI-O with the VM handler.
func startVM(t *testing.T, change ...func(*crio.Options)) *crio.Server {
	t.Helper()
	if *storageDriver != "" {
		t.Skip("the VM handler takes nothing but EROFS volumes")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip(err)
	}
	standIn := must[env.StandIn](t)(builtStandIn())
	return start(t, append(change, func(o *crio.Options) { o.StandIn = &standIn })...)
}

// TestVM goes the whole way with the VM handler: the guest has the image as verified EROFS volumes, those that the
// host's manifest names.
func TestVM(t *testing.T) {
	server := startVM(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM}))
	c, result, err := pod.Run(ctx, crio.ContainerOptions{
		Image:   ref,
		Command: []string{"sh", "-c", "cat /etc/motd; ls /etc/issue; echo note >&2; exit 7"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "This file came out of an EROFS volume.\n"; result.Stdout != want || result.ExitCode != 7 {
		t.Errorf("stdout %q, exit code %d, want %q and 7", result.Stdout, result.ExitCode, want)
	}
	if !strings.Contains(result.Stderr, "No such file") || !strings.HasSuffix(result.Stderr, "note\n") {
		t.Errorf("stderr is %q", result.Stderr)
	}
	sleeper := startHeavySleeper(t, pod, ref)
	if r := must[crio.Result](t)(sleeper.Exec(ctx, "sh", "-c", "echo w > /new && cat /new; exit 3")); r.ExitCode != 3 ||
		r.Stdout != "w\n" {
		t.Errorf("exec: %+v", r)
	}
	checkGuest(t, pod, c)
	checkGuest(t, pod, sleeper)
	checkGuard(t, server, sleeper)
	checkCommand(t, server, sleeper)
	if err := pod.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if err := server.RemoveImage(ctx, ref); err != nil {
		t.Fatal(err)
	}
}

// checkGuest compares what the guest says with the host's manifest of a container, which is in one of the verified modes
// that contrib's configuration gives it.
func checkGuest(t *testing.T, pod *crio.Pod, c *crio.Container) {
	t.Helper()
	spec := must[crio.Spec](t)(c.Spec(timeout(t)))
	mode := kata.Mode(spec.Annotations[kata.AnnotationMode])
	if !mode.Verity() {
		t.Errorf("the container has mode %q", mode)
	}
	checkMode(t, pod, c, mode)
}

// checkGuard runs the guard on a container that came through the shim, as Kata's Go runtime does. (runtime-rs, which the
// stand-in follows, does not run it.)
func checkGuard(t *testing.T, server *crio.Server, c *crio.Container) {
	t.Helper()
	bundles, err := filepath.Glob(filepath.Join(server.Dir(), "runroot/*-containers", c.ID, "userdata"))
	if err != nil || len(bundles) != 1 {
		t.Fatalf("bundles of container %s: %q, %v", c.ID, bundles, err)
	}
	state := fmt.Sprintf(`{"ociVersion":"1.2.0","id":%q,"status":"creating","bundle":%q}`, c.ID, bundles[0])
	cmd := exec.Command(must[string](t)(env.Bin("crio-erofs-hook")), "oci", "createRuntime")
	cmd.Stdin = strings.NewReader(state)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the guard stops a container with volumes: %v: %s", err, out)
	}
	address := filepath.Join(bundles[0], "address")
	if err := os.Rename(address, address+".away"); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(cmd.Path, cmd.Args[1:]...)
	cmd.Stdin = strings.NewReader(state)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "its runtime is not crio-erofs's shim") {
		t.Errorf("the guard lets a container pass that is not the shim's: %v: %s", err, out)
	}
	if err := os.Rename(address+".away", address); err != nil {
		t.Fatal(err)
	}
}

// checkLower checks one EROFS mount of the guest and the dm-verity device below it.
func checkLower(t *testing.T, info agentapi.GuestInfo, mountPoint, device string, want *volume.Verity) {
	t.Helper()
	mount := "/dev/mapper/" + device + " " + mountPoint + " erofs ro,"
	if !slices.ContainsFunc(info.Mounts, func(m string) bool { return strings.HasPrefix(m, mount) }) {
		t.Errorf("the guest has no mount %q, but %q", mount, info.Mounts)
	}
	// dm-verity's own line (Documentation/admin-guide/device-mapper/verity.rst), behind version and two devices.
	table := fmt.Sprintf(" 4096 4096 %d %d sha256 %s -", want.DataBlocks, want.TreeOffset/4096, want.RootHash)
	for _, dm := range info.DM {
		if dm.Name != device {
			continue
		}
		if !strings.HasSuffix(dm.Table, table) || dm.Status != "V" || !dm.ReadOnly {
			t.Errorf("the guest's device is %+v, want a table with %q", dm, table)
		}
		return
	}
	t.Errorf("the guest has no device %s, but %+v", device, info.DM)
}

// TestVMRestart restarts CRI-O while a VM runs.
func TestVMRestart(t *testing.T) {
	server := startVM(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM}))
	c := startSleeper(t, pod, ref)
	server.Kill()
	if err := server.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if !must[bool](t)(pod.Ready(ctx)) || !must[bool](t)(c.Running(ctx)) {
		t.Fatal("CRI-O no longer counts pod and container as running")
	}
	if r := must[crio.Result](t)(c.Exec(ctx, "cat", "/etc/motd")); r.ExitCode != 0 {
		t.Errorf("exec after the restart: %+v", r)
	}
	other := startSleeper(t, pod, ref)
	checkGuest(t, pod, other)
}

// TestVMRefuses tries what must not reach the VM.
func TestVMRefuses(t *testing.T) {
	server := startVM(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM}))

	// Ours are overwritten, whoever wrote them. CRI-O's own on the container alone could be replaced, by kubelet.
	annotations := stolen(t)
	delete(annotations, hooks.AnnotationMountPoint)
	c, result, err := pod.Run(ctx, crio.ContainerOptions{
		Image: ref, Command: []string{"cat", "/etc/motd"}, Annotations: annotations,
	})
	if err != nil || result.ExitCode != 0 {
		t.Fatalf("run: %+v, %v", result, err)
	}
	checkAnnotations(t, must[crio.Spec](t)(c.Spec(ctx)))
	checkGuest(t, pod, c)

	// On a sandbox CRI-O lets a pod's author write over CRI-O's own: this one would be a container in the VM of the first.
	_, err = server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM, Annotations: map[string]string{
		"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": pod.ID,
	}})
	if err == nil || !strings.Contains(err.Error(), "would get into the VM of pod "+pod.ID) {
		t.Errorf("a sandbox in the VM of another: %v", err)
	}
	checkGuest(t, pod, c)

	// A volume whose sidecar names another root hash is not passed on.
	sidecars, err := filepath.Glob(filepath.Join(server.GraphRoot(), "erofs/volumes/*", volume.VerityFileName))
	if err != nil || len(sidecars) < 2 {
		t.Fatalf("%q, %v", sidecars, err)
	}
	other, err := os.ReadFile(sidecars[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, sidecar := range sidecars[1:] {
		if err := os.WriteFile(sidecar, other, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err = pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}}); err == nil ||
		!strings.Contains(err.Error(), volume.VerityFileName) {
		t.Errorf("run with exchanged sidecars: %v, want an error that names %s", err, volume.VerityFileName)
	}
}
