package doctor

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/crioconfig"
	"github.com/crio-erofs/crio-erofs/driver"
)

const (
	// driverTag is the build tag with which contrib/crio compiles the driver in.
	driverTag = "graphdriver_erofs"

	// crioModule is CRI-O's module, and crioVersion the one that the tests are run with (contrib/crio/go.mod).
	crioModule  = "github.com/cri-o/cri-o"
	crioVersion = "v1.34.0"

	// What of contrib is for /etc/crio/crio.conf.d.
	dropIn         = "contrib/crio.conf.d/60-erofs.conf"
	handlersDropIn = "contrib/crio.conf.d/60-kata-erofs.conf"
)

func checkConfigFiles(_ context.Context, n *Node) []Finding {
	if n.crioErr != nil {
		return []Finding{bad(Problem, "", n.crioErr.Error(), "CRI-O does not start with it: correct the file")}
	}
	if len(n.crio.Files) == 0 {
		return []Finding{bad(Problem, "", "CRI-O has no configuration files", "copy "+dropIn+" to "+crioconfig.DefaultDir)}
	}
	return []Finding{good("", "read %s", strings.Join(n.crio.Files, ", "))}
}

// checkProgram looks at how CRI-O was built: Go writes it into the program (debug/buildinfo), stripped or not.
func checkProgram(_ context.Context, n *Node) []Finding {
	const mend = "build it with \"make crio\" (contrib/crio) and install it in place of the distribution's"
	real, path, err := n.program()
	if err != nil {
		return []Finding{bad(Problem, "", err.Error(), mend)}
	}
	info, err := buildinfo.ReadFile(real)
	if err != nil {
		return []Finding{bad(Unknown, path, fmt.Sprintf("how %s was built cannot be read: %v", path, err), mend)}
	}
	version := moduleVersion(info, crioModule)
	switch {
	case version == "":
		return []Finding{bad(Problem, path, path+" is not CRI-O, but "+info.Path, mend)}
	case !slices.Contains(strings.Split(setting(info, "-tags"), ","), driverTag):
		return []Finding{bad(Problem, path, fmt.Sprintf("%s, CRI-O %s, has no storage driver erofs compiled in", path, version), mend)}
	case version != crioVersion && version != "(devel)":
		return []Finding{bad(Advice, path, fmt.Sprintf("%s is CRI-O %s with the driver; crio-erofs is tested with %s", path, version,
			crioVersion), "run the tests of test/crio with that version, or use "+crioVersion)}
	}
	return []Finding{good(path, "CRI-O %s has the driver compiled in", version)}
}

func moduleVersion(info *debug.BuildInfo, module string) string {
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == module {
			return m.Version
		}
	}
	return ""
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// checkStorage looks at what CRI-O is told about its store.
func checkStorage(_ context.Context, n *Node) []Finding {
	if n.crio.StorageDriver != driver.Name {
		return []Finding{bad(Problem, "driver", fmt.Sprintf("CRI-O's storage driver is %q", n.crio.StorageDriver),
			fmt.Sprintf("set storage_driver = %q in [crio], as %s does; drain the node first: images of the other driver stay on disk, "+
				"unseen", driver.Name, dropIn))}
	}
	findings := []Finding{good("driver", "storage_driver = %q, store %s", driver.Name, n.crio.GraphRoot)}
	if n.crio.ImageStore != "" {
		findings = append(findings, good("imagestore", "images are in a store of their own, %s", n.crio.ImageStore))
	}
	s, err := driver.CheckOptions(n.crio.StorageOptions)
	switch {
	case err != nil:
		findings = append(findings, bad(Problem, "options", err.Error(), "correct storage_option in "+
			strings.Join(n.crio.Files, ", ")))
	case !s.Verity:
		findings = append(findings, bad(Advice, "options", "erofs.verity=off: images that are pulled now cannot be verified by "+
			"guests", "set erofs.verity=on, and pull them again"))
	default:
		own := ownOptions(n.crio.StorageOptions)
		if len(own) == 0 {
			own = []string{"all of the driver's options have their defaults"}
		}
		findings = append(findings, good("options", "%s", strings.Join(own, ", ")))
	}
	if err == nil && s.Decrypted {
		findings = append(findings, decryption(n))
	}
	return findings
}

// decryption says what follows from erofs.decrypted_layers=allow.
func decryption(n *Node) Finding {
	const subject = "decryption"
	keys := n.crio.Runtime.DecryptionKeys
	dir, err := n.source.Resolve(keys)
	if err != nil {
		return bad(Unknown, subject, fmt.Sprintf("CRI-O's keys in %s: %v", keys, err), "correct decryption_keys_path")
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return bad(Unknown, subject, fmt.Sprintf("CRI-O's keys cannot be looked for: %v", err), "correct decryption_keys_path")
	}
	if len(entries) == 0 {
		return good(subject, "erofs.decrypted_layers=allow, and CRI-O has no keys in %s", keys)
	}
	return bad(Advice, subject, fmt.Sprintf("erofs.decrypted_layers=allow, and CRI-O has keys in %s: layers that it decrypts with "+
		"them lie in the store in the clear, for whoever can read the disk", keys),
		"set erofs.decrypted_layers=refuse, and have guests pull such images (mode guest-pull, docs/trust.md)")
}

// checkRunning compares the CRI-O that runs with the files, which count from its next start on.
func checkRunning(_ context.Context, n *Node) []Finding {
	if n.live == nil {
		return []Finding{bad(Unknown, "", fmt.Sprintf("no CRI-O answers: %v", n.liveErr),
			"start CRI-O (systemctl start crio), or say where its socket is (--crio-socket)")}
	}
	if n.liveErr != nil {
		return []Finding{bad(Unknown, "", n.liveErr.Error(), "run crio-erofs doctor as root, on the host")}
	}
	const restart = "restart CRI-O (systemctl restart crio) on a drained node"
	if changed := differences(&n.live.Crio, &n.crio.Crio); len(changed) > 0 {
		return []Finding{bad(Problem, "", fmt.Sprintf("CRI-O (process %d) still runs with other settings than its files have: %s",
			n.pid, strings.Join(changed, "; ")), restart)}
	}
	if _, path, err := n.program(); err == nil && strings.HasSuffix(path, " (deleted)") {
		return []Finding{bad(Advice, "", fmt.Sprintf("CRI-O (process %d) runs a program that has been replaced since", n.pid), restart)}
	}
	return []Finding{good("", "CRI-O runs (process %d) with what its files say", n.pid)}
}

// differences names what the running CRI-O has otherwise.
func differences(live, files *crioconfig.Crio) []string {
	var changed []string
	add := func(key string, live, files any) {
		if !reflect.DeepEqual(live, files) {
			changed = append(changed, fmt.Sprintf("%s is %v, not %v", key, live, files))
		}
	}
	add("storage_driver", live.StorageDriver, files.StorageDriver)
	add("root", live.GraphRoot, files.GraphRoot)
	add("storage_option", ownOptions(live.StorageOptions), ownOptions(files.StorageOptions))
	add("hooks_dir", live.Runtime.HooksDir, files.Runtime.HooksDir)
	add("enable_nri", live.NRI.Enabled, files.NRI.Enabled)
	add("nri_plugin_dir", live.NRI.PluginDir, files.NRI.PluginDir)
	for name, h := range files.Runtime.Runtimes {
		l := live.Runtime.Runtimes[name]
		if l == nil {
			changed = append(changed, "there is no handler "+name)
			continue
		}
		if h.RuntimePath != "" { // else CRI-O looks for it in PATH
			add("runtime_path of "+name, l.RuntimePath, h.RuntimePath)
		}
		add("runtime_config_path of "+name, l.RuntimeConfigPath, h.RuntimeConfigPath)
	}
	slices.Sort(changed)
	return changed
}

// ownOptions leaves the options that are this driver's.
func ownOptions(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return !strings.HasPrefix(o, driver.Name+".") })
}
