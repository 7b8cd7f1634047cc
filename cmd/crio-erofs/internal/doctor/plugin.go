package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/crio-erofs/crio-erofs/hooks/nriconf"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// hookProgram is the name of the program that is the NRI plugin and the guard.
const hookProgram = "crio-erofs-hook"

func checkNRI(_ context.Context, n *Node) []Finding {
	if !n.crio.NRI.Enabled {
		return []Finding{bad(Problem, "", "CRI-O asks no NRI plugins (enable_nri = false), so containers get no annotations and our "+
			"handlers refuse them", "set enable_nri = true in [crio.nri]")}
	}
	return []Finding{good("", "CRI-O asks NRI plugins")}
}

// checkPlugin looks for the NRI plugin: pre-installed in CRI-O's directory, or started by somebody else; never both.
func checkPlugin(_ context.Context, n *Node) []Finding {
	installed, findings := n.preinstalled()
	var external []process
	if !n.isTree() {
		external = n.externalPlugins()
	}
	dir := n.crio.NRI.PluginDir
	switch {
	case len(installed) == 1 && len(external) > 0:
		findings = append(findings, bad(Problem, "start", fmt.Sprintf("the plugin is in %s and also runs by itself (process %d): NRI "+
			"refuses a container for which two plugins set one annotation", dir, external[0].pid),
			"remove "+installed[0]+" and restart CRI-O, or stop the other (systemctl disable --now crio-erofs-hook)"))
	case len(installed) > 1:
		findings = append(findings, bad(Problem, "start", fmt.Sprintf("%s has the plugin %d times: %s", dir, len(installed),
			list(installed)), "leave one: NRI refuses a container for which two plugins set one annotation"))
	case len(installed) == 1:
		findings = append(findings, n.preinstalledRuns(installed[0]))
	case len(external) > 0:
		findings = append(findings, n.externalConnects(external[0]))
	default:
		findings = append(findings, n.noPlugin(dir))
	}
	return append(findings, n.pluginSettings(installed)...)
}

func (n *Node) noPlugin(dir string) Finding {
	mend := fmt.Sprintf("link it: ln -s /usr/local/bin/%s %s/10-crio-erofs, and restart CRI-O; or run \"%s nri\" under a supervisor",
		hookProgram, dir, hookProgram)
	if n.isTree() {
		return bad(Advice, "start", dir+" has no plugin: it has to be started by a unit", mend)
	}
	return bad(Problem, "start", "the NRI plugin is neither in "+dir+" nor does it run by itself: new containers of our handlers are "+
		"refused", mend)
}

// preinstalled returns the paths of our plugin in CRI-O's directory, as NRI goes through it (nri v0.9,
// pkg/adaptation/adaptation.go, discoverPlugins): one name that it does not understand keeps CRI-O from starting.
func (n *Node) preinstalled() (paths []string, findings []Finding) {
	dir := n.crio.NRI.PluginDir
	real, err := n.source.Resolve(dir)
	if err != nil {
		return nil, []Finding{bad(Unknown, dir, err.Error(), "")}
	}
	entries, err := os.ReadDir(real)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, []Finding{bad(Unknown, dir, err.Error(), "run crio-erofs doctor as root")}
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		index, _, ok := strings.Cut(e.Name(), "-")
		if _, err := strconv.Atoi(index); e.IsDir() || !ok || err != nil || len(index) != 2 || !n.isHook(path) {
			continue
		}
		if err := n.runnable(path); err != nil {
			findings = append(findings, bad(Problem, path, err.Error(), "install the program there, or correct the link"))
			continue
		}
		paths = append(paths, path)
	}
	return paths, findings
}

// isHook says whether a path of the node is our hook, by the name or by what it is a link to.
func (n *Node) isHook(path string) bool {
	if strings.HasSuffix(filepath.Base(path), "-"+nriconf.PluginName) {
		return true
	}
	real, err := n.source.Resolve(path)
	if err == nil && !n.isTree() {
		real, err = filepath.EvalSymlinks(real)
	}
	return err == nil && filepath.Base(real) == hookProgram
}

// preinstalledRuns says whether CRI-O runs the plugin: it gives up on one that crashes or is slow, until it is restarted.
func (n *Node) preinstalledRuns(path string) Finding {
	if n.pid == 0 {
		return good("start", "CRI-O will start %s", path)
	}
	name := strings.SplitN(filepath.Base(path), "-", 2)[1]
	for _, p := range processes() {
		if p.parent == n.pid && (p.isHook() || len(p.args) > 0 && filepath.Base(p.args[0]) == name) {
			return good("start", "CRI-O runs %s (process %d)", path, p.pid)
		}
	}
	return bad(Problem, "start", fmt.Sprintf("CRI-O (process %d) does not run %s: it came after CRI-O's start, or was dropped when it "+
		"crashed or did not answer in time; new containers of our handlers are refused", n.pid, path),
		"look into the system's log for crio-erofs (journalctl -t crio-erofs), and restart CRI-O")
}

func (n *Node) externalConnects(p process) Finding {
	if n.crio.NRI.DisableConnections {
		return bad(Problem, "start", fmt.Sprintf("the plugin runs by itself (process %d), and CRI-O takes no connections "+
			"(nri_disable_connections)", p.pid), "set nri_disable_connections = false in [crio.nri]")
	}
	return good("start", "the plugin runs by itself (process %d)", p.pid)
}

// externalPlugins returns the processes that are our plugin and not CRI-O's children.
func (n *Node) externalPlugins() (found []process) {
	for _, p := range processes() {
		if p.isHook() && p.parent != n.pid && slices.Contains(p.args, "nri") {
			found = append(found, p)
		}
	}
	return found
}

// pluginSettings reads what CRI-O hands to a pre-installed plugin, from the first file that is there (nri v0.9,
// pkg/adaptation/plugin.go, getPluginConfig).
func (n *Node) pluginSettings(installed []string) []Finding {
	if len(installed) == 0 {
		return nil
	}
	full := filepath.Base(installed[0])
	_, base, _ := strings.Cut(full, "-")
	for _, name := range []string{full, base} {
		path := filepath.Join(n.crio.NRI.PluginConfigDir, name+".conf")
		real, err := n.source.Resolve(path)
		if err != nil {
			return []Finding{bad(Unknown, path, err.Error(), "")}
		}
		b, err := os.ReadFile(real)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return []Finding{bad(Unknown, path, err.Error(), "run crio-erofs doctor as root")}
		}
		s, err := nriconf.Parse(string(b))
		if err != nil {
			return []Finding{bad(Problem, path, fmt.Sprintf("settings of the plugin, %s: %v", path, err),
				"correct the file and restart CRI-O: until then containers of our handlers are refused")}
		}
		return []Finding{n.sameConfig(path, s.Config)}
	}
	return []Finding{n.sameConfig("settings", nil)}
}

// sameConfig makes sure that plugin and shim read one configuration: else they do not agree about a container, and it is
// refused.
func (n *Node) sameConfig(subject string, plugins *string) Finding {
	shims, _ := n.configPath()
	path := modes.DefaultPath
	if plugins != nil && *plugins != "" {
		path = *plugins
	}
	if path != shims {
		return bad(Problem, subject, fmt.Sprintf("the plugin reads %s, and the shim %s: where the two differ, containers are refused",
			path, shims), fmt.Sprintf("make \"config\" in %s and %s in CRI-O's environment name one file", n.crio.NRI.PluginConfigDir,
			modes.Environment))
	}
	return good(subject, "plugin and shim read %s", path)
}
