package crio_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"google.golang.org/grpc/status"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

var update = flag.Bool("update", false, "write testdata/messages.txt anew")

// attempt is something that is refused, and how.
type attempt struct {
	name    string
	handler string // of the pod
	before  func(*testing.T, *crio.Server)
	opts    crio.PodOptions
	sandbox bool // the pod itself is refused, else the container
}

// attempts are all refused, each by its name with what before does, which undoes itself.
var attempts = []attempt{
	{name: "a request under a handler that is not ours", handler: crio.HandlerRunc, opts: request(kata.ModeImageVerity)},
	{name: "an unknown request under a handler that is not ours", handler: crio.HandlerRunc, opts: request("best")},
	{name: "our configuration for a handler that is not our shim", handler: crio.HandlerRunc,
		before: setConfig("[handlers.runc]\nmodes = [\"layer-verity\"]\n")},
	{name: "a mistake in the configuration, container", handler: crio.HandlerVM, before: setConfig("[handlers.kata-erofs]\nmode = []\n")},
	{name: "a mistake in the configuration, pod", handler: crio.HandlerVM, sandbox: true,
		before: setConfig("[handlers.kata-erofs]\nmodes = [\"image-verify\"]\n")},
	{name: "a request that is not allowed", handler: crio.HandlerVM, sandbox: true, opts: request(kata.ModeSharedFS)},
	{name: "an unknown request", handler: crio.HandlerVM, sandbox: true, opts: request("best")},
	{name: "no image volume", handler: crio.HandlerVM, before: setConfig("[handlers.kata-erofs]\nmodes = [\"image-verity\"]\n")},
	{name: "untrusted, container", handler: crio.HandlerVM, before: setConfig("[handlers.kata-erofs]\nenforce = \"require\"\n")},
	{name: "untrusted, pod", handler: crio.HandlerVM, sandbox: true, before: setConfig("enforce = \"require\"\n")},
	{name: "a hypervisor that cannot", handler: crio.HandlerVM,
		before: setConfig("[handlers.kata-erofs]\nhypervisor = \"cloud-hypervisor\"\n")},
	{name: "Kata's configuration is gone", handler: crio.HandlerVM,
		before: setConfig("[handlers.kata-erofs]\nkata_config = \"/none.toml\"\n")},
	{name: "a dialect that Kata does not speak", handler: crio.HandlerVM,
		before: setConfig("[handlers.kata-erofs]\nmodes = [\"layer\"]\ndialect = \"go\"\n")},
	{name: "a user namespace", handler: crio.HandlerVM, sandbox: true,
		opts: crio.PodOptions{IDs: &cri.IDMapping{HostId: 200000, Length: 65536}}},
	{name: "a forced pull in the guest", handler: crio.HandlerVM, sandbox: true, opts: crio.PodOptions{Annotations: map[string]string{
		"io.katacontainers.config.runtime.experimental": "force_guest_pull"}}},
	{name: "Kata's shim is gone", handler: crio.HandlerVMLayer, sandbox: true, before: move("shims/containerd-shim-kata-v2")},
	{name: "Kata's shim does not start", handler: crio.HandlerVMLayer, sandbox: true, before: write("shims/containerd-shim-kata-v2",
		"#!/bin/sh\necho no KVM here >&2\n")},
	{name: "a volume of another size", handler: crio.HandlerVM, before: onVolumes(func(path string) error { return os.Truncate(path, 4096) })},
	{name: "a volume with another tree", handler: crio.HandlerVM, before: onVolumes(func(path string) error {
		return os.WriteFile(filepath.Join(filepath.Dir(path), volume.VerityFileName), []byte("{}"), 0o444)
	})},
	{name: "the plugin is away", handler: crio.HandlerVM, before: killPlugin},
	{name: "the plugin is away, a request under another handler", handler: crio.HandlerRunc, opts: request(kata.ModeLayerVerity)},
}

// TestMessages provokes refusals and looks at all that CRI-O answers to the kubelet, which is what "kubectl describe pod"
// shows: testdata/messages.txt has it, for people to read. go test ./test/crio -run TestMessages -update writes it.
func TestMessages(t *testing.T) {
	server := startVM(t, func(o *crio.Options) { o.StorageOptions = []string{"erofs.image_volume=off"} }) // on any file system
	ctx := timeout(t)
	ref := pull(t, server, images.Small)
	vm := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM}))
	runc := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerRunc}))
	var golden bytes.Buffer
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			if a.before != nil {
				a.before(t, server)
			}
			a.opts.Handler = a.handler
			err := a.refused(t, server, map[string]*crio.Pod{crio.HandlerVM: vm, crio.HandlerRunc: runc}[a.handler], ref)
			fmt.Fprintf(&golden, "# %s\n%s\n\n", a.name, masked(server, answer(err)))
		})
	}
	const path = "testdata/messages.txt"
	if *update {
		if err := os.WriteFile(path, golden.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := must[[]byte](t)(os.ReadFile(path)); !bytes.Equal(golden.Bytes(), want) {
		t.Errorf("messages have changed (-update writes them):\n%s\nwant:\n%s", &golden, want)
	}
}

// refused makes the attempt and returns CRI-O's error.
func (a *attempt) refused(t *testing.T, server *crio.Server, pod *crio.Pod, ref string) error {
	t.Helper()
	ctx := timeout(t)
	if a.sandbox || a.opts.Annotations != nil || pod == nil {
		own, err := server.RunPod(ctx, a.opts)
		if a.sandbox {
			if err == nil {
				t.Fatal("the pod runs")
			}
			return err
		}
		if err != nil {
			t.Fatal(err)
		}
		pod = own
	}
	c, err := pod.CreateContainer(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}})
	if err == nil {
		err = c.Start(ctx)
	}
	if err == nil {
		t.Fatal("the container runs")
	}
	return err
}

// answer is what CRI-O said, without what the test's own functions put in front.
func answer(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		if s, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
			return s.GRPCStatus().Message()
		}
	}
	return ""
}

// masked puts words in the place of what is another in every run.
func masked(server *crio.Server, message string) string {
	message = strings.ReplaceAll(message, server.Dir(), "DIR")
	for _, m := range []struct{ pattern, word string }{
		{`[0-9a-f]{64}`, "ID"}, {`volumes/[0-9a-f]{24}`, "volumes/VOLUME"}, {`127\.0\.0\.1:[0-9]+`, "REGISTRY"},
		{`c-[0-9]+`, "CONTAINER"}, {`pod-[0-9]+`, "POD"}, {`size is [0-9]+, but the manifest says [0-9]+`, "size is N, but the manifest says N"},
		{`time="[^"]*"`, "time=TIME"}, {`instead of [0-9]+`, "instead of N"},
		{`manifest says \{.*?\}`, "manifest says {...}"}, {`shim/[0-9a-f]{24}`, "shim/SHIM"},
	} {
		message = regexp.MustCompile(m.pattern).ReplaceAllString(message, m.word)
	}
	return message
}

// onVolumes does something to every volume of the store, and puts the files back.
func onVolumes(spoil func(path string) error) func(*testing.T, *crio.Server) {
	return func(t *testing.T, server *crio.Server) {
		t.Helper()
		for _, path := range must[[]string](t)(filepath.Glob(filepath.Join(server.GraphRoot(), "erofs/volumes/*", volume.FileName))) {
			sidecar := filepath.Join(filepath.Dir(path), volume.VerityFileName)
			content, side := must[[]byte](t)(os.ReadFile(path)), must[[]byte](t)(os.ReadFile(sidecar))
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				for path, content := range map[string][]byte{path: content, sidecar: side} {
					if err := os.WriteFile(path, content, 0o444); err != nil { // in place: the inode counts
						t.Error(err)
					}
				}
			})
		}
	}
}
