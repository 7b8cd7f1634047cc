package crio_test

import (
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestRunc goes the whole way with runc: pull, run, output, exit code, exec, write, remove.
func TestRunc(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))

	_, result, err := pod.Run(ctx, crio.ContainerOptions{
		Image:   ref,
		Command: []string{"sh", "-c", "cat /etc/motd; ls /etc/issue /etc/issue.net; echo note >&2; exit 7"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "This file came out of an EROFS volume.\n"; result.Stdout != want {
		t.Errorf("stdout is %q, want %q", result.Stdout, want)
	}
	if n := strings.Count(result.Stderr, "No such file"); n != 2 {
		t.Errorf("%d of 2 files with whiteouts are gone: %s", n, result.Stderr)
	}
	if result.ExitCode != 7 {
		t.Errorf("exit code is %d, want 7", result.ExitCode)
	}

	sleeper := startHeavySleeper(t, pod, ref)
	written := must[crio.Result](t)(sleeper.Exec(ctx, "sh", "-c",
		"echo changed > /etc/motd && rm /etc/debian_version && mkdir /new && cat /etc/motd"))
	if written.Stdout != "changed\n" || written.ExitCode != 0 {
		t.Errorf("writing in the container: %+v", written)
	}
	other := startSleeper(t, pod, ref)
	if r := must[crio.Result](t)(other.Exec(ctx, "sh", "-c", "cat /etc/motd; test -e /etc/debian_version")); r.ExitCode != 0 ||
		!strings.HasPrefix(r.Stdout, "This file") {
		t.Errorf("one container sees what another wrote: %+v", r)
	}
	if err := sleeper.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if err := pod.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if err := server.RemoveImage(ctx, ref); err != nil {
		t.Fatal(err)
	}
	for _, name := range must[[]string](t)(server.Images(ctx)) {
		if name == ref {
			t.Errorf("%s is still there", ref)
		}
	}
}
