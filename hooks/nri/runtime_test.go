package nri_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/runtime-tools/generate"
	"github.com/opencontainers/runtime-spec/specs-go"
	rgen "github.com/opencontainers/runtime-tools/generate"
	"github.com/sirupsen/logrus"
)

// These tests talk to the plugin through the very code that CRI-O uses: NRI's adaptation package, and its generator
// that applies a plugin's answer to an OCI configuration. As a restart of CRI-O ends its process and thereby its
// connections, which Stop of an Adaptation does not, the runtime is a process of its own: this test binary again.

const runtimeEnv = "CRIO_EROFS_TEST_NRI_RUNTIME"

// runtimeConfig goes to the runtime process in its environment.
type runtimeConfig struct {
	Plugins, Configs, Socket string
}

// runtimeRequest is a container to create.
type runtimeRequest struct {
	Handler     string
	Annotations map[string]string
}

// runtimeAnswer is what became of one container.
type runtimeAnswer struct {
	Adjusted    bool              // at least one plugin answered with a change
	Annotations map[string]string // in config.json, afterwards
	Hooks       []specs.Hook      // of the stage createRuntime, the same
	Error       string            // why the container is not created
}

func TestMain(m *testing.M) {
	if config := os.Getenv(runtimeEnv); config != "" {
		if err := runtimeMain(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if plugin.dir != "" {
		os.RemoveAll(plugin.dir)
	}
	os.Exit(code)
}

func runtimeMain(config string) error {
	var c runtimeConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	logrus.SetLevel(logrus.WarnLevel)
	sync := func(ctx context.Context, cb adaptation.SyncCB) error {
		_, err := cb(ctx, nil, nil)
		return err
	}
	update := func(context.Context, []*adaptation.ContainerUpdate) ([]*adaptation.ContainerUpdate, error) {
		return nil, nil
	}
	r, err := adaptation.New("test", "1", sync, update, adaptation.WithPluginPath(c.Plugins),
		adaptation.WithPluginConfigPath(c.Configs), adaptation.WithSocketPath(c.Socket))
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var request runtimeRequest
		if err := in.Decode(&request); err == io.EOF {
			r.Stop()
			return nil
		} else if err != nil {
			return err
		}
		if err := out.Encode(createContainer(r, request)); err != nil {
			return err
		}
	}
}

// createContainer does what CRI-O's CreateContainer does with NRI.
func createContainer(r *adaptation.Adaptation, request runtimeRequest) runtimeAnswer {
	rpl, err := r.CreateContainer(context.Background(), &api.CreateContainerRequest{
		Pod:       &api.PodSandbox{Id: "p1", Name: "pod", Namespace: "default", RuntimeHandler: request.Handler},
		Container: &api.Container{Id: "c1", PodSandboxId: "p1", Name: "main", Annotations: clone(request.Annotations)},
	})
	if err != nil {
		return runtimeAnswer{Error: err.Error()}
	}
	g := rgen.NewFromSpec(&specs.Spec{Version: specs.Version, Annotations: clone(request.Annotations)})
	if err := generate.SpecGenerator(&g).Adjust(rpl.Adjust); err != nil {
		return runtimeAnswer{Error: err.Error()}
	}
	answer := runtimeAnswer{Adjusted: len(rpl.Adjust.GetAnnotations()) > 0, Annotations: g.Config.Annotations}
	if g.Config.Hooks != nil {
		answer.Hooks = g.Config.Hooks.CreateRuntime
	}
	return answer
}

func clone(m map[string]string) map[string]string {
	c := map[string]string{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

// runtime is a runtime process, seen from a test.
type runtime struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	killed bool
}

func startRuntime(t *testing.T, c runtimeConfig) *runtime {
	t.Helper()
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	r := &runtime{t: t, cmd: exec.Command(os.Args[0])}
	r.cmd.Env = append(os.Environ(), runtimeEnv+"="+string(config))
	r.cmd.Stderr = os.Stderr
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	return r
}

// kill ends the runtime as a crash would.
func (r *runtime) kill() {
	if r.killed {
		return
	}
	r.killed = true
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// create creates a container of the handler kata-erofs.
func (r *runtime) create(annotations map[string]string) runtimeAnswer {
	r.t.Helper()
	return r.createWith("kata-erofs", annotations)
}

func (r *runtime) createWith(handler string, annotations map[string]string) runtimeAnswer {
	r.t.Helper()
	if err := json.NewEncoder(r.in).Encode(runtimeRequest{handler, annotations}); err != nil {
		r.t.Fatal(err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	var a runtimeAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		r.t.Fatalf("%s: %v", line, err)
	}
	return a
}

// createWithPlugin repeats create until a plugin has connected, which shows in that it removes a probe.
func (r *runtime) createWithPlugin(annotations map[string]string) runtimeAnswer {
	r.t.Helper()
	r.waitForPlugin()
	return r.create(annotations)
}

func (r *runtime) waitForPlugin() {
	r.t.Helper()
	probe := map[string]string{"io.katacontainers.volume.probe": "x"}
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if a := r.createWith("runc", probe); a.Error != "" || a.Adjusted {
			return
		}
		if time.Now().After(end) {
			r.t.Fatal("no plugin connected to the runtime within 15 s")
		}
	}
}
