package doctor

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/crioconfig"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

const (
	// shimModule is the path of our shim's main package, which Go writes into the program.
	shimModule = "github.com/crio-erofs/crio-erofs/cmd/containerd-shim-kata-erofs-v2"

	// runtimeTypeVM is CRI-O's runtime_type for shims.
	runtimeTypeVM = "vm"
)

// handler is a runtime handler of CRI-O's that is ours, or should be.
type handler struct {
	name  string
	crio  *crioconfig.Handler
	modes modes.Handler
}

// ours returns the handlers of CRI-O's that are this project's, by name.
func (n *Node) ours() (handlers []handler) {
	config := n.modes
	if config == nil {
		config = &modes.Config{} // config tells what is wrong with it
	}
	for _, name := range slices.Sorted(maps.Keys(n.crio.Runtime.Runtimes)) {
		c := n.crio.Runtime.Runtimes[name]
		if h, ours := config.Handler(name); c != nil && (ours || n.isShim(c.RuntimePath)) {
			handlers = append(handlers, handler{name: name, crio: c, modes: h})
		}
	}
	return handlers
}

// isShim says whether a path of the node is our shim.
func (n *Node) isShim(path string) bool {
	real, err := n.source.Resolve(path)
	if err != nil || path == "" {
		return false
	}
	info, err := buildinfo.ReadFile(real)
	return err == nil && info.Path == shimModule
}

// checkHandlers looks at how CRI-O starts the shims.
func checkHandlers(_ context.Context, n *Node) []Finding {
	handlers := n.ours()
	if len(handlers) == 0 {
		return []Finding{bad(Problem, "", "CRI-O has no handler of crio-erofs: nothing gives VMs their images as volumes",
			"copy "+handlersDropIn+" to "+crioconfig.DefaultDir)}
	}
	var findings []Finding
	for _, h := range handlers {
		findings = append(findings, n.checkHandler(h)...)
	}
	return findings
}

func (n *Node) checkHandler(h handler) (findings []Finding) {
	problem := func(found, mend string) { findings = append(findings, bad(Problem, h.name, found, mend)) }
	want := "containerd-shim-" + h.name + "-v2"
	path := h.crio.RuntimePath
	err := n.runnable(path)
	switch {
	case path == "":
		problem("runtime_path is missing", "set runtime_path to the path of "+want)
	case err != nil:
		problem(fmt.Sprintf("runtime_path: %v", err), fmt.Sprintf("install the shim, or link it: ln -s "+
			"containerd-shim-kata-erofs-v2 %s", path))
	case !n.isShim(path):
		problem(fmt.Sprintf("runtime_path %s is not the shim of crio-erofs: containers get no volumes, and the plugin refuses them",
			path), "set runtime_path to a link to containerd-shim-kata-erofs-v2 called "+want+", or take the handler out of "+
			"/etc/crio-erofs/config.toml and \"erofs\" out of its name")
	case filepath.Base(path) != want:
		problem(fmt.Sprintf("the program of runtime_path is called %s, so the shim takes itself for another handler",
			filepath.Base(path)), "call it "+want)
	}
	if h.crio.RuntimeType != runtimeTypeVM {
		problem(fmt.Sprintf("runtime_type is %q", h.crio.RuntimeType), fmt.Sprintf("set runtime_type = %q", runtimeTypeVM))
	}
	findings = append(findings, n.checkConfigPath(h)...)
	if len(findings) == 0 {
		findings = append(findings, good(h.name, "%s, modes %s", path, list(h.modes.Modes)))
	}
	return findings
}

// checkConfigPath looks at the path of Kata's configuration, in both places where it may be.
func (n *Node) checkConfigPath(h handler) (findings []Finding) {
	if h.crio.RuntimeConfigPath == "" && h.modes.KataConfig == "" {
		return []Finding{bad(Advice, h.name, "neither runtime_config_path nor kata_config names Kata's configuration: Kata looks in its "+
			"own places, and what the hypervisor cannot do is found out by failing", fmt.Sprintf("set runtime_config_path in "+
			"[crio.runtime.runtimes.%s]", h.name))}
	}
	for key, path := range map[string]string{"runtime_config_path": h.crio.RuntimeConfigPath, "kata_config": h.modes.KataConfig} {
		if path == "" {
			continue
		}
		if _, err := n.stat(path); err != nil {
			findings = append(findings, bad(Problem, h.name, fmt.Sprintf("%s: %v", key, err), "install Kata, or correct the path"))
		}
	}
	return findings
}

// hintRuntimeClasses says what the cluster has to have, which cannot be seen from a node.
func hintRuntimeClasses(_ context.Context, n *Node) []Finding {
	var names []string
	for _, h := range n.ours() {
		names = append(names, h.name)
	}
	if len(names) == 0 {
		return nil
	}
	return []Finding{good("", "pods choose a handler by a RuntimeClass of the cluster with \"handler: NAME\": %s "+
		"(contrib/kubernetes/runtimeclass.yaml; kubectl get runtimeclass)", list(names))}
}

func list[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}

func bySubject(a, b Finding) int { return strings.Compare(a.Subject, b.Subject) }
