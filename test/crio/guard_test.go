package crio_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

func request(mode kata.Mode) crio.PodOptions {
	return crio.PodOptions{Annotations: map[string]string{kata.AnnotationRequest: string(mode)}}
}

// checkRuns makes sure that a container of such a pod runs.
func checkRuns(t *testing.T, server *crio.Server, opts crio.PodOptions, ref string) {
	t.Helper()
	ctx := timeout(t)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, opts))
	_, result, err := pod.Run(ctx, crio.ContainerOptions{Image: ref, Command: []string{"cat", "/etc/motd"}})
	if err != nil || result.ExitCode != 0 {
		t.Errorf("run: %+v, %v", result, err)
	}
	if err := pod.Remove(ctx); err != nil {
		t.Error(err)
	}
}

// TestGuard runs CRI-O without the NRI plugin: the guard of the hooks directory is all there is.
func TestGuard(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("the containers' rootfs are not on the erofs driver")
	}
	server := start(t, func(o *crio.Options) { o.WithoutPlugin = true })
	ref := pull(t, server, images.Small)
	checkRuns(t, server, crio.PodOptions{}, ref)
	checkRuns(t, server, request(kata.ModeSharedFS), ref)
	for _, mode := range []kata.Mode{kata.ModeImageVerity, kata.ModeLayer, kata.ModeGuestPull} {
		checkRefused(t, server, request(mode), ref, "asks for mode "+string(mode)+", but its runtime is not crio-erofs's")
	}
}

// TestConfiguration edits the configuration while CRI-O runs. The handler runc, which is no shim, becomes one of those
// that get volumes: the plugin sees that its pods were not started by the shim.
func TestConfiguration(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("the containers' rootfs are not on the erofs driver")
	}
	server := start(t)
	ref := pull(t, server, images.Small)
	runc := crio.PodOptions{Handler: crio.HandlerRunc}
	for _, step := range []struct{ config, want string }{
		{"", ""},
		{"[handlers.runc]\nmodes = [\"layer-verity\"]\n", "handler runc asks for mode layer-verity, but its runtime is not"},
		{"[handlers.runc]\nmode = [\"layer-verity\"]\n", server.ConfigFile() + ":2: unknown key handlers.runc.mode; valid"},
		{"[handlers.runc]\nmodes = [\"guest-pull\"]\nallow = []\ndialect = \"go\"\n", ""},
		{"", ""},
	} {
		if err := server.SetConfig(step.config); err != nil {
			t.Fatal(err)
		}
		if step.want == "" {
			checkRuns(t, server, runc, ref)
		} else {
			checkRefused(t, server, runc, ref, step.want)
		}
	}
}

// TestVMPluginHangs stops the NRI plugin in its tracks. CRI-O waits for 2 s, drops it and goes on without it.
func TestVMPluginHangs(t *testing.T) {
	server := startVM(t)
	ref := pull(t, server, images.Small)
	checkRuns(t, server, crio.PodOptions{Handler: crio.HandlerVM}, ref)
	pid := pluginOf(t, server)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Kill(pid, unix.SIGKILL) }) // CRI-O ends it with SIGTERM, or has ended it
	vm := crio.PodOptions{Handler: crio.HandlerVM}
	checkRefused(t, server, vm, ref, "has not annotated this container: is it running?")
	vm.Annotations = stolen(t)
	checkRefused(t, server, vm, ref, "failed precondition")
	checkRuns(t, server, crio.PodOptions{}, ref)
	checkRefused(t, server, request(kata.ModeLayerVerity), ref, "asks for mode layer-verity, but its runtime is not")
}

// pluginOf finds the process of the plugin that a CRI-O has started.
func pluginOf(t *testing.T, server *crio.Server) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil || !bytes.HasPrefix(b, []byte(filepath.Join(server.Dir(), "nri/plugins")+"/")) {
			continue // gone meanwhile, or another program
		}
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatal("no NRI plugin runs")
	return 0
}
