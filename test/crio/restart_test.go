package crio_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestRestart restarts CRI-O below a running container, first as an upgrade does, then as a crash does. The container's
// image cannot be removed until the container is.
func TestRestart(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	c := startSleeper(t, pod, ref)
	if r := must[crio.Result](t)(c.Exec(ctx, "sh", "-c", "echo kept > /note")); r.ExitCode != 0 {
		t.Fatalf("exec: %+v", r)
	}
	for name, end := range map[string]func(){"SIGTERM": server.Terminate, "SIGKILL": server.Kill} {
		end()
		if err := server.Run(ctx); err != nil {
			t.Fatalf("start after %s: %v", name, err)
		}
		if !must[bool](t)(pod.Ready(ctx)) || !must[bool](t)(c.Running(ctx)) {
			t.Fatalf("after %s CRI-O no longer counts pod and container as running", name)
		}
		if r := must[crio.Result](t)(c.Exec(ctx, "cat", "/note", "/etc/motd")); r.ExitCode != 0 || len(r.Stdout) < 20 {
			t.Errorf("exec after %s: %+v", name, r)
		}
	}
	if err := server.RemoveImage(ctx, ref); err == nil {
		t.Error("an image that is in use was removed")
	}
	other := startSleeper(t, pod, ref) // on the same volumes
	if err := c.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if r := must[crio.Result](t)(other.Exec(ctx, "cat", "/etc/motd")); r.ExitCode != 0 {
		t.Errorf("a container lost its files when another one was removed: %+v", r)
	}
	if err := pod.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if err := server.RemoveImage(ctx, ref); err != nil {
		t.Fatal(err)
	}
	checkStore(t, server)
}

// TestReboot loses all mounts, processes and what is in /run between two runs of CRI-O, as a reboot does. Images stay.
func TestReboot(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	if _, _, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(server.Dir()))
	if err != nil {
		t.Fatal(err)
	}
	for i := len(infos) - 1; i >= 0; i-- {
		if err := unix.Unmount(infos[i].Mountpoint, unix.MNT_DETACH); err != nil {
			t.Fatalf("umount %s: %v", infos[i].Mountpoint, err)
		}
	}
	for _, lost := range []string{"runroot", "version", "exits", "attach"} { // by default all of these are in /run
		if err := os.RemoveAll(filepath.Join(server.Dir(), lost)); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Run(ctx); err != nil {
		t.Fatal(err)
	}
	checkRepaired(t, server)
	if there := must[[]string](t)(server.Images(ctx)); !slices.Contains(there, ref) {
		t.Errorf("after the reboot there are the images %v", there)
	}
	again := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	_, result, err := again.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"cat", "/etc/motd"}})
	if err != nil || result.ExitCode != 0 {
		t.Errorf("run after the loss of all mounts: %+v, %v", result, err)
	}
}

// startSleeper starts a container that does nothing until it is told to end.
func startSleeper(t *testing.T, pod *crio.Pod, ref string) *crio.Container {
	t.Helper()
	return startContainer(t, pod, ref, "sh", "-c", "trap exit TERM; sleep 1000 & wait")
}

// startHeavySleeper starts a container that does not end when it is told to, as a first process does not that has no
// handler for SIGTERM (pid_namespaces(7)). Who stops it has to kill it, when its time is over.
func startHeavySleeper(t *testing.T, pod *crio.Pod, ref string) *crio.Container {
	t.Helper()
	return startContainer(t, pod, ref, "sleep", "1000")
}

func startContainer(t *testing.T, pod *crio.Pod, ref string, command ...string) *crio.Container {
	t.Helper()
	ctx := timeout(t)
	c := must[*crio.Container](t)(pod.CreateContainer(ctx, crio.ContainerOptions{Image: ref, Command: command}))
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}
