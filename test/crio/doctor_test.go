package crio_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
)

// finding and examination are what "crio-erofs doctor --format json" prints.
type finding struct{ Check, Subject, State, Found, Mend string }

type examination struct {
	State    string
	Findings []finding
	exit     int
}

// doctor runs crio-erofs doctor on a CRI-O.
func doctor(t *testing.T, server *crio.Server, args ...string) (e examination) {
	t.Helper()
	program := must[string](t)(env.Bin("crio-erofs"))
	cmd := exec.Command(program, append([]string{"doctor", "--format", "json", "--crio-config",
		filepath.Join(server.Dir(), "crio.conf"), "--crio-config-dir", filepath.Join(server.Dir(), "crio.conf.d")}, args...)...)
	cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+filepath.Join(server.Dir(), "storage.conf"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		e.exit = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(stdout.Bytes(), &e); err != nil {
		t.Fatalf("%v: %s%s", err, &stdout, &stderr)
	}
	return e
}

// of returns the findings of a check that have a state.
func (e *examination) of(check, state string) (found []finding) {
	for _, f := range e.Findings {
		if f.Check == check && f.State == state {
			found = append(found, f)
		}
	}
	return found
}

// TestDoctor has the doctor look at a node in order, and then at the same node with one thing broken at a time.
func TestDoctor(t *testing.T) {
	server := startVM(t)
	e := doctor(t, server)
	for _, f := range e.Findings {
		if f.State == "problem" || f.State == "unknown" {
			t.Errorf("in order: %+v", f)
		}
		if (f.State == "ok") != (f.Mend == "") {
			t.Errorf("to be mended or not: %+v", f)
		}
	}
	if e.exit != 0 || e.State != "ok" || len(e.of("kata", "ok")) != 3 {
		t.Errorf("in order: exit status %d, %+v", e.exit, e)
	}
	for _, b := range breaks {
		t.Run(b.name, func(t *testing.T) {
			b.spoil(t, server)
			e := doctor(t, server)
			if !slices.ContainsFunc(e.of(b.check, b.state), func(f finding) bool {
				return strings.Contains(f.Found, b.found) && f.Mend != ""
			}) {
				t.Errorf("no %s of %s with %q in %+v", b.state, b.check, b.found, e.Findings)
			}
			if want := map[string]int{"problem": 1, "unknown": 3, "advice": 0}[b.state]; e.exit != want {
				t.Errorf("exit status %d, want %d", e.exit, want)
			}
		})
	}
	if e := doctor(t, server); e.exit != 0 {
		t.Errorf("mended: exit status %d, %+v", e.exit, e)
	}
	t.Run("the plugin was dropped", func(t *testing.T) {
		killPlugin(t, server)
		e := doctor(t, server)
		if f := e.of("plugin", "problem"); len(f) != 1 || !strings.Contains(f[0].Found, "does not run") || e.exit != 1 {
			t.Errorf("exit status %d, %+v", e.exit, e.Findings)
		}
	})
	t.Run("CRI-O is down", func(t *testing.T) {
		server.Terminate()
		e := doctor(t, server, "--crio", must[string](t)(env.Bin("crio")), "--config", server.ConfigFile())
		if len(e.of("crio-running", "unknown")) != 1 || len(e.of("crio-program", "ok")) != 1 {
			t.Errorf("exit status %d, %+v", e.exit, e.Findings)
		}
		if err := server.Run(timeout(t)); err != nil {
			t.Fatal(err)
		}
	})
}

// breaks are things that go wrong on nodes. Each undoes itself at its test's end.
var breaks = []struct {
	name                string
	spoil               func(*testing.T, *crio.Server)
	check, state, found string
}{
	{"configuration", setConfig("[handlers.kata-erofs]\nmode = []\n"), "config", "problem", "unknown key handlers.kata-erofs.mode"},
	{"handler that CRI-O lacks", setConfig("[handlers.kata-x]\n"), "config", "advice", "handler kata-x, which CRI-O does not have"},
	{"required trust", setConfig("enforce = \"require\"\n"), "trust", "problem", "and it trusts none"},
	{"statement", write("trusted.d/a.json", "{"), "trust", "advice", "is not trusted"},
	{"key", write("keys.d/a.pem", "x"), "trust", "advice", "a.pem"},
	{"hypervisor", setConfig("[handlers.kata-erofs]\nhypervisor = \"cloud-hypervisor\"\n"), "kata", "problem",
		"image-verity, layer-verity: not possible with Kata as it is here: hypervisor cloud-hypervisor attaches no disk"},
	{"one mode of two", setConfig("[handlers.kata-erofs]\nmodes = [\"image-verity\", \"image\", \"guest-pull\"]\nhypervisor = \"dragonball\"\n"), "kata",
		"advice", "image-verity: not possible"},
	{"Kata's configuration", setConfig("[handlers.kata-erofs]\nkata_config = \"/none.toml\"\n"), "handler", "problem",
		"kata_config: stat /none.toml: no such file"},
	{"Kata's shim is gone", move("shims/containerd-shim-kata-v2"), "kata", "problem", "real Kata shim not found"},
	{"Go runtime", write("shims/containerd-shim-kata-v2", "#!/bin/sh\necho 'Kata Containers containerd shim (Golang): id: "+
		"\"io.containerd.kata.v2\", version: 4.1.0, commit: x'\n"), "kata", "problem", "is Kata's Go runtime, whose guests cannot verify"},
	{"our shim is gone", move("shims/containerd-shim-kata-erofs-layer-v2"), "handler", "problem", "runtime_path: stat "},
	{"another shim", write("shims/containerd-shim-kata-erofs-layer-v2", "#!/bin/sh\n"), "handler", "problem",
		"is not the shim of crio-erofs"},
	{"guard", move("hooks.d/60-crio-erofs-guard.json"), "guard", "advice", "no guard in "},
	{"hook without program", write("hooks.d/other.json", `{"version":"1.0.0","hook":{"path":"/none"},"when":{"always":true},`+
		`"stages":["prestart"]}`), "guard", "problem", "other.json: faccessat /none: no such file"},
	{"podman's hook", write("hooks.d/other.json", `{"version":"1.0.0","hook":{"path":"/bin/true"},"when":{"always":true},`+
		`"stages":["precreate"]}`), "guard", "problem", `unknown stage "precreate"`},
	{"plugin is gone", move("nri/plugins/10-crio-erofs"), "plugin", "problem", "is neither in "},
	{"plugin twice", link("nri/plugins/11-crio-erofs"), "plugin", "problem", "has the plugin 2 times"},
	{"plugin's settings", write("nri/conf.d/10-crio-erofs.conf", `{"loglevel": "info"}`), "plugin", "problem", `unknown field "loglevel"`},
	{"two configurations", write("nri/conf.d/10-crio-erofs.conf", `{}`), "plugin", "problem",
		"the plugin reads /etc/crio-erofs/config.toml, and the shim "},
	{"driver", dropIn("[crio]\nstorage_driver = \"overlay\"\n"), "crio-storage", "problem", `storage driver is "overlay"`},
	{"not restarted", dropIn("[crio]\nstorage_option = [\"erofs.verify=on-mount\"]\n"), "crio-running", "problem",
		"still runs with other settings than its files have: storage_option is "},
	{"option", dropIn("[crio]\nstorage_option = [\"erofs.layuot=aligned\"]\n"), "crio-storage", "problem",
		`unknown storage option "erofs.layuot=aligned"`},
	{"NRI", dropIn("[crio.nri]\nenable_nri = false\n"), "nri", "problem", "asks no NRI plugins"},
	{"not TOML", dropIn("[crio\n"), "crio-config", "problem", "99-break.conf"},
	{"runtime type", dropIn("[crio.runtime.runtimes.kata-erofs]\nruntime_path = \"SHIMS/containerd-shim-kata-erofs-v2\"\n"), "handler",
		"problem", `runtime_type is ""`},
	{"handler's name", dropIn("[crio.runtime.runtimes.kata-erofs]\nruntime_path = \"SHIMS/containerd-shim-kata-erofs-layer-v2\"\n" +
		"runtime_type = \"vm\"\n"), "handler", "problem", "takes itself for another handler"},
	{"a second plugin", externalPlugin, "plugin", "problem", "and also runs by itself"},
}

func setConfig(text string) func(*testing.T, *crio.Server) { return write("config.toml", text) }

func dropIn(text string) func(*testing.T, *crio.Server) {
	return write("crio.conf.d/99-break.conf", text)
}

// write replaces a file of the node's, or makes one.
func write(name, text string) func(*testing.T, *crio.Server) {
	return func(t *testing.T, server *crio.Server) {
		t.Helper()
		path := filepath.Join(server.Dir(), name)
		old, err := os.Readlink(path)
		isLink := err == nil
		content, err := os.ReadFile(path)
		was := err == nil
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.RemoveAll(path)); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(text, "SHIMS", filepath.Join(server.Dir(), "shims"))
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			err := os.Remove(path)
			switch {
			case isLink:
				err = errors.Join(err, os.Symlink(old, path))
			case was:
				err = errors.Join(err, os.WriteFile(path, content, 0o755))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// move takes a file away.
func move(name string) func(*testing.T, *crio.Server) {
	return func(t *testing.T, server *crio.Server) {
		t.Helper()
		path, away := filepath.Join(server.Dir(), name), filepath.Join(server.Dir(), "away")
		if err := os.Rename(path, away); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Rename(away, path); err != nil {
				t.Error(err)
			}
		})
	}
}

// link makes another link to the hook.
func link(name string) func(*testing.T, *crio.Server) {
	return func(t *testing.T, server *crio.Server) {
		t.Helper()
		path := filepath.Join(server.Dir(), name)
		if err := os.Symlink(must[string](t)(env.Bin("crio-erofs-hook")), path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		})
	}
}

// externalPlugin starts the plugin once more, waiting for a socket that is not there: all the doctor needs to see.
func externalPlugin(t *testing.T, server *crio.Server) {
	t.Helper()
	cmd := exec.Command(must[string](t)(env.Bin("crio-erofs-hook")), "nri", "--socket", filepath.Join(server.Dir(), "none.sock"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// killPlugin kills the plugin that CRI-O has started, and waits for its end.
func killPlugin(t *testing.T, server *crio.Server) {
	t.Helper()
	pid := pluginOf(t, server)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for ctx := timeout(t); ctx.Err() == nil; {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil { // a zombie has no program
			return
		}
	}
	t.Fatal("the plugin does not end")
}
