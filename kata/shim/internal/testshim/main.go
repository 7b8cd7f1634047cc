// Program testshim is a test peer: a task server over real ttrpc that behaves towards its caller as a Kata shim does
// (start, address and shim.pid files, one daemon per sandbox) but runs no containers. It records what it is asked and
// misbehaves on demand, by environment and container id.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Environment variables, set by the tests.
const (
	envDir     = "TESTSHIM_DIR"     // sockets and records
	envStart   = "TESTSHIM_START"   // how start behaves: "", empty, fail, noise, holdpipe
	envVersion = "TESTSHIM_VERSION" // the line that --version prints
)

func main() {
	action := os.Args[len(os.Args)-1]
	switch {
	case len(os.Args) == 3 && os.Args[1] == "daemon":
		serve(os.Args[2])
	case action == "start":
		start()
	case action == "--version":
		fmt.Println(os.Getenv(envVersion))
	case action == "delete", action == "-info":
		in, _ := io.ReadAll(os.Stdin)
		cwd, _ := os.Getwd()
		fmt.Printf("args=%q stdin=%q cwd=%q", os.Args[1:], in, cwd)
		fmt.Fprint(os.Stderr, "said on stderr")
	default:
		fmt.Fprintf(os.Stderr, "unknown action %q", action)
		os.Exit(3)
	}
}

func start() {
	switch os.Getenv(envStart) {
	case "empty": // runtime-rs
		fmt.Fprintln(os.Stderr, "ERROR: no such hypervisor")
		return
	case "fail": // the Go runtime
		fmt.Fprintln(os.Stderr, "cannot start: no such kernel")
		os.Exit(1)
	case "noise":
		fmt.Fprintln(os.Stderr, "warning: something harmless")
	}
	sandbox, isSandbox := sandboxID()
	address := "unix://" + socket(sandbox)
	record("start-"+flagValue("-id")+".json", map[string]any{"args": os.Args[1:], "env": os.Environ(), "cwd": cwd()})
	if isSandbox {
		startDaemon(sandbox)
	}
	must(os.WriteFile("address", []byte(address), 0o644))
	fmt.Print(address)
}

func startDaemon(sandbox string) {
	if c, err := net.Dial("unix", socket(sandbox)); err == nil {
		c.Close()
		return
	}
	cmd := exec.Command("/proc/self/exe", "daemon", sandbox)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Getenv(envStart) == "holdpipe" {
		cmd.Stderr = os.Stderr
	}
	must(cmd.Start())
	must(os.WriteFile("shim.pid", fmt.Appendf(nil, "%d", cmd.Process.Pid), 0o644))
	for range 500 {
		if c, err := net.Dial("unix", socket(sandbox)); err == nil {
			c.Close()
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	must(fmt.Errorf("daemon does not listen on %s", socket(sandbox)))
}

func socket(sandbox string) string { return filepath.Join(os.Getenv(envDir), sandbox+".sock") }

// sandboxID finds the sandbox as Kata does, in the annotations of the bundle's configuration: the Go runtime looks for
// containerd's keys before CRI-O's (src/runtime/pkg/oci/utils.go), runtime-rs after them (src/libs/kata-types/src/k8s.rs).
func sandboxID() (id string, isSandbox bool) {
	b, err := os.ReadFile("config.json")
	must(err)
	var config struct{ Annotations map[string]string }
	must(json.Unmarshal(b, &config))
	types := []string{"io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri.container-type"}
	ids := []string{"io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.sandbox-id"}
	if strings.Contains(os.Getenv(envVersion), "Golang") {
		slices.Reverse(types)
		slices.Reverse(ids)
	}
	first := func(keys []string) string {
		for _, k := range keys {
			if v, ok := config.Annotations[k]; ok {
				return v
			}
		}
		return ""
	}
	if first(types) == "sandbox" {
		return flagValue("-id"), true
	}
	return first(ids), false
}

func flagValue(name string) string {
	for i, a := range os.Args[:len(os.Args)-1] {
		if a == name {
			return os.Args[i+1]
		}
	}
	return ""
}

func cwd() string {
	d, err := os.Getwd()
	must(err)
	return d
}

func record(name string, v any) {
	b, err := json.Marshal(v)
	must(err)
	must(os.WriteFile(filepath.Join(os.Getenv(envDir), strings.ReplaceAll(name, "/", "_")), b, 0o644))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
