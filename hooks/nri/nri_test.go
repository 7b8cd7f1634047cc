package nri_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/kata"
)

const rootHash = "6f398283a00a69ee4f1dd7f41ba5a36dfcafaf883fbd93566d5ffebb1796684d"

var plugin struct {
	once sync.Once
	dir  string
	err  error
}

// buildPlugin builds the program once and returns its path.
func buildPlugin(t *testing.T) string {
	t.Helper()
	plugin.once.Do(func() {
		if plugin.dir, plugin.err = os.MkdirTemp("", "crio-erofs-hook-test-"); plugin.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", plugin.dir+"/", "github.com/crio-erofs/crio-erofs/cmd/crio-erofs-hook")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("%s", out)
			plugin.err = err
		}
	})
	if plugin.err != nil {
		t.Fatal(plugin.err)
	}
	return filepath.Join(plugin.dir, "crio-erofs-hook")
}

// newConfig returns empty directories and a socket that is not there yet.
func newConfig(t *testing.T) runtimeConfig {
	t.Helper()
	dir, err := os.MkdirTemp("", "nri-") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := runtimeConfig{dir + "/plugins", dir + "/conf.d", dir + "/nri.sock"}
	for _, d := range []string{c.Plugins, c.Configs} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func preinstall(t *testing.T, c runtimeConfig) {
	t.Helper()
	if err := os.Symlink(buildPlugin(t), filepath.Join(c.Plugins, "10-crio-erofs")); err != nil {
		t.Fatal(err)
	}
}

// container writes a manifest with one volume and returns its mount point.
func container(t *testing.T, refusal string) string {
	t.Helper()
	mountPoint := filepath.Join(t.TempDir(), "merged")
	m := volume.Manifest{Version: volume.ManifestVersion, ID: "c", MountPoint: mountPoint, Refusal: refusal}
	if refusal == "" {
		m.Volumes = []volume.ManifestVolume{{
			Description: volume.Description{Layout: volume.LayoutAligned, FormatVersion: 1, Size: 49152,
				Verity: &volume.Verity{RootHash: rootHash, Algorithm: "sha256", HashType: 1, DataBlockSize: 4096,
					HashBlockSize: 4096, DataBlocks: 10, HashOffset: 40960, TreeOffset: 45056}},
			Path: "/store/volumes/6f398283a00a69ee4f1dd7f4/layer.erofs", LayerID: "l"}}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(volume.ManifestPath(mountPoint), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return mountPoint
}

// hostile is what a pod that wants the host's disk would bring, and one key that is none of our business.
func hostile(mountPoint string) map[string]string {
	return map[string]string{
		hooks.AnnotationMountPoint:           mountPoint,
		"io.katacontainers.volume.0":         "x",
		"io.katacontainers.volume.1":         "x",
		"io.katacontainers.extraoption":      "x",
		"io.katacontainers.erofs.mode":       "image-verity",
		"io.katacontainers.erofs.surprise":   "x",
		"io.katacontainers.config.agent.foo": "bar",
	}
}

// checkAnnotated wants the annotations of the container's manifest and nothing else of ours.
func checkAnnotated(t *testing.T, a runtimeAnswer, mountPoint string) {
	t.Helper()
	if a.Error != "" {
		t.Fatal(a.Error)
	}
	ours := 0
	for key := range a.Annotations {
		if kata.IsReserved(key) {
			ours++
		}
	}
	got := a.Annotations
	if ours != 4 || got[kata.AnnotationMode] != "layer-verity" || got[kata.AnnotationRootHash] != rootHash ||
		got["io.katacontainers.config.agent.foo"] != "bar" || got[hooks.AnnotationMountPoint] != mountPoint {
		t.Errorf("got %v", got)
	}
	v, err := kata.DecodeVirtualVolume(got[kata.VolumeKey(0)])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kata.DecodeExtraOption(got[kata.ExtraOptionKey(0)]); err != nil {
		t.Fatal(err)
	}
	if v.DMVerity.Hash != rootHash {
		t.Errorf("got %+v", v.DMVerity)
	}
}

func checkOnlyForeign(t *testing.T, a runtimeAnswer) {
	t.Helper()
	if a.Error != "" || len(a.Annotations) != 2 || a.Annotations["io.katacontainers.config.agent.foo"] != "bar" {
		t.Errorf("got %+v", a)
	}
}

func TestPreinstalled(t *testing.T) {
	c := newConfig(t)
	preinstall(t, c)
	r := startRuntime(t, c)

	mountPoint := container(t, "")
	a := r.create(hostile(mountPoint))
	checkAnnotated(t, a, mountPoint) // the first container already
	if len(a.Hooks) != 1 || a.Hooks[0].Path != buildPlugin(t) ||
		strings.Join(a.Hooks[0].Args[1:], " ") != "oci createRuntime" {
		t.Errorf("the guard: %+v", a.Hooks)
	}
	for _, handler := range []string{"", "runc"} {
		a = r.createWith(handler, hostile(mountPoint))
		checkOnlyForeign(t, a)
		if len(a.Hooks) != 0 {
			t.Errorf("handler %q: guard %+v", handler, a.Hooks)
		}
	}
	if a := r.createWith("runc", map[string]string{"a": "b"}); a.Adjusted || len(a.Annotations) != 1 {
		t.Errorf("a container that is not ours was changed: %+v", a)
	}
	damaged := container(t, "")
	if err := os.WriteFile(volume.ManifestPath(damaged), []byte(`{"version":1`), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := container(t, "parent layer is a directory")
	for want, a := range map[string]runtimeAnswer{
		"crio-erofs-hook: manifest " + volume.ManifestPath(damaged): r.create(hostile(damaged)),
		"volumes: parent layer is a directory":                      r.create(hostile(refused)),
		"is not on the erofs storage driver":                        r.create(hostile(filepath.Join(t.TempDir(), "merged"))),
		"the pod requests mode guest-pull, which handler kata-erofs does not allow": r.create(map[string]string{
			hooks.AnnotationMountPoint: mountPoint, kata.AnnotationRequest: "guest-pull"}),
		`its runtime handler "runc" gives no container that`: r.createWith("runc", map[string]string{
			hooks.AnnotationMountPoint: mountPoint, kata.AnnotationRequest: "layer-verity"}),
	} {
		if !strings.Contains(a.Error, want) {
			t.Errorf("got %+v, want an error with %q", a, want)
		}
	}
	checkAnnotated(t, r.create(hostile(mountPoint)), mountPoint) // errors have not cost us the connection
}

func TestPreinstalledEndsWithRuntime(t *testing.T) {
	c := newConfig(t)
	preinstall(t, c)
	r := startRuntime(t, c)
	r.waitForPlugin()
	pids := pluginsOf(t, c)
	if len(pids) != 1 {
		t.Fatalf("plugin processes: %v", pids)
	}
	r.kill()
	waitFor(t, "the plugin's end", func() bool { return len(pluginsOf(t, c)) == 0 })
}

// pluginsOf returns the processes that were started as a plugin of this configuration.
func pluginsOf(t *testing.T, c runtimeConfig) (pids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		if b, err := os.ReadFile(path); err == nil && bytes.HasPrefix(b, []byte(c.Plugins+"/")) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// TestShimIsThere gives volumes to pods whose sandbox came through the shim, and to no others.
func TestShimIsThere(t *testing.T) {
	c := newConfig(t)
	preinstall(t, c)
	r := startRuntime(t, c)
	mountPoint := container(t, "")
	bundle, shim := t.TempDir(), t.TempDir()
	annotations := hostile(mountPoint)
	annotations["io.kubernetes.cri-o.ResolvPath"] = filepath.Join(bundle, "resolv.conf")
	const want = "handler kata-erofs asks for mode layer-verity, but its runtime is not crio-erofs's shim (no shim has left"
	if a := r.create(annotations); !strings.Contains(a.Error, want) {
		t.Errorf("got %+v, want an error with %q", a, want)
	}
	for path, text := range map[string]string{
		filepath.Join(bundle, "address"): "unix://" + shim + "/sock", filepath.Join(shim, "state.json"): "{}",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if a := r.create(annotations); a.Error != "" || a.Annotations[kata.AnnotationMode] != "layer-verity" {
		t.Errorf("got %+v", a)
	}
}

// A mistake in the settings stops the handlers that they are about, and nothing else.
func TestPreinstalledSettings(t *testing.T) {
	mountPoint := container(t, "")
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for settings, want := range map[string]string{
		`{"log_level": "loud"}`:                     "settings of the NRI plugin (/etc/nri/conf.d): log_level: not a valid",
		`{"loglevel": "info"}`:                      `unknown field "loglevel"; valid is {"log_level"`,
		`{"config": "config.toml"}`:                 `config: "config.toml" is not an absolute path`,
		`{"config": "/no/such/config.toml"}`:        "/no/such/config.toml",
		`{"log_level": "warning"} {}`:               "there is something behind the JSON object",
		`{"guard": "", "config": "` + config + `"}`: "",
	} {
		c := newConfig(t)
		preinstall(t, c)
		if err := os.WriteFile(filepath.Join(c.Configs, "crio-erofs.conf"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		r := startRuntime(t, c)
		checkOnlyForeign(t, r.createWith("runc", hostile(mountPoint)))
		a := r.create(hostile(mountPoint))
		if want == "" {
			checkAnnotated(t, a, mountPoint)
			if len(a.Hooks) != 0 {
				t.Errorf("a guard that is switched off: %+v", a.Hooks)
			}
		} else if !strings.Contains(a.Error, want) {
			t.Errorf("%s: got %+v, want an error with %q", settings, a, want)
		}
		r.kill()
	}
}

// TestConfigurationChanges edits the configuration while the plugin runs.
func TestConfigurationChanges(t *testing.T) {
	c := newConfig(t)
	preinstall(t, c)
	config := filepath.Join(t.TempDir(), "config.toml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(c.Configs, "10-crio-erofs.conf"), `{"config": "`+config+`"}`)
	write(config, "[handlers.kata-erofs]\nmodes = [\"shared-fs\"]\n")
	r := startRuntime(t, c)
	mountPoint := container(t, "")
	if a := r.create(hostile(mountPoint)); a.Annotations[kata.AnnotationMode] != "shared-fs" || len(a.Annotations) != 3 ||
		len(a.Hooks) != 0 {
		t.Errorf("got %+v", a)
	}
	write(config, "[handlers.kata-erofs]\nmodes = [\"shared\"]\n")
	if a := r.create(hostile(mountPoint)); !strings.Contains(a.Error, config+`:2: mode "shared" is unknown`) {
		t.Errorf("got %+v", a)
	}
	write(config, "")
	checkAnnotated(t, r.create(hostile(mountPoint)), mountPoint)
}

// The plugin is there before the socket, and again after the runtime was killed.
func TestExternal(t *testing.T) {
	c := newConfig(t)
	p := startExternal(t, c.Socket)
	p.waitForLog(t, "no connection to the runtime; trying until there is one")

	mountPoint := container(t, "")
	for range 2 {
		r := startRuntime(t, c)
		checkAnnotated(t, r.createWithPlugin(hostile(mountPoint)), mountPoint)
		r.kill()
		p.waitForLog(t, "connection to the runtime ended; connecting again")
	}
	r := startRuntime(t, c)
	if a := r.createWithPlugin(hostile(container(t, "parent layer is a directory"))); a.Error == "" {
		t.Errorf("got %+v", a)
	}
	p.waitForLog(t, "container refused")

	start := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, p.log())
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("SIGTERM took %v", took)
	}
	if a := r.create(map[string]string{"io.katacontainers.volume.0": "x"}); a.Error != "" {
		t.Errorf("the runtime after the plugin's end: %+v", a)
	}
}

// SIGTERM ends a plugin that has no connection, too.
func TestExternalStopsWhileWaiting(t *testing.T) {
	p := startExternal(t, newConfig(t).Socket)
	p.waitForLog(t, "no connection to the runtime")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, p.log())
	}
}

type external struct {
	cmd    *exec.Cmd
	stderr lockedBuffer
}

func startExternal(t *testing.T, socket string) *external {
	t.Helper()
	p := &external{cmd: exec.Command(buildPlugin(t), "nri", "--socket", socket, "--name", "erofs", "--idx", "42")}
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	return p
}

func (p *external) log() string { return p.stderr.String() }

// waitForLog waits for a line and forgets what was logged so far.
func (p *external) waitForLog(t *testing.T, want string) {
	t.Helper()
	waitFor(t, "log line "+want, func() bool { return p.stderr.cut(want) })
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// lockedBuffer is written by the program's output and read by the test.
type lockedBuffer struct {
	sync.Mutex
	b bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.Lock()
	defer l.Unlock()
	return l.b.String()
}

// cut drops everything up to and including s, and says whether s was there.
func (l *lockedBuffer) cut(s string) bool {
	l.Lock()
	defer l.Unlock()
	i := strings.Index(l.b.String(), s)
	if i < 0 {
		return false
	}
	l.b.Next(i + len(s))
	return true
}
