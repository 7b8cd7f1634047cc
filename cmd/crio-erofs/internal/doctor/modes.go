package doctor

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// checkModes looks at crio-erofs's own configuration.
func checkModes(_ context.Context, n *Node) []Finding {
	path, _ := n.configPath()
	if n.modesErr != nil {
		return []Finding{bad(Problem, path, n.modesErr.Error(), "correct it (contrib/config/config.toml has every key): until then "+
			"no container of these handlers is created")}
	}
	var findings []Finding
	if len(n.modes.Handlers) == 0 {
		findings = append(findings, good(path, "handlers with erofs in their names have the defaults: image-verity, layer-verity"))
	} else {
		findings = append(findings, good(path, "names %s", list(slices.Sorted(maps.Keys(n.modes.Handlers)))))
	}
	for name := range n.modes.Handlers {
		if n.crio.Runtime.Runtimes[name] == nil {
			findings = append(findings, bad(Advice, name, fmt.Sprintf("%s has a table for handler %s, which CRI-O does not have", path,
				name), "define it in [crio.runtime.runtimes], or take it out"))
		}
	}
	slices.SortFunc(findings[1:], bySubject)
	return findings
}

// checkTrust looks at what the node trusts.
func checkTrust(ctx context.Context, n *Node) []Finding {
	path, _ := n.configPath()
	shown := filepath.Join(filepath.Dir(path), trust.DirName)
	real, err := n.source.Resolve(filepath.Dir(path))
	if err != nil {
		return []Finding{bad(Unknown, "", err.Error(), "")}
	}
	dir := trust.NewDir(filepath.Join(real, trust.DirName), filepath.Join(real, trust.KeysName))
	state, require := Advice, n.requires()
	if require != "" {
		state = Problem
	}
	entries, err := dir.Entries(ctx)
	if err != nil {
		return []Finding{bad(state, shown, err.Error(), "correct or remove the file")}
	}
	var findings []Finding
	usable := 0
	for _, e := range entries {
		if name := filepath.Join(shown, filepath.Base(e.Path)); e.Problem != nil {
			findings = append(findings, bad(state, name, fmt.Sprintf("%s is not trusted: %v", name, e.Problem),
				"make it anew (crio-erofs trust), add the key that signed it to "+trust.KeysName+" beside it, or remove it"))
			continue
		}
		usable++
	}
	switch {
	case require != "" && usable == 0:
		findings = append(findings, bad(Problem, shown, fmt.Sprintf("handler %s starts only images that the node trusts "+
			"(enforce = \"require\"), and it trusts none", require), "add measurements with crio-erofs trust"))
	case len(findings) == 0:
		findings = append(findings, good(shown, "%d measurements are trusted, all in order", usable))
	}
	return findings
}

// requires returns a handler that starts trusted images only; "" if there is none.
func (n *Node) requires() string {
	for _, h := range n.ours() {
		if h.modes.Enforce == modes.EnforceRequire {
			return h.name
		}
	}
	return ""
}
