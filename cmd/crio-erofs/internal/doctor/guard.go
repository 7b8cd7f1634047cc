package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	hook "github.com/containers/common/pkg/hooks/1.0.0"
)

// guardStage is the stage in which the guard runs.
const guardStage = "createRuntime"

const guardMend = "copy contrib/hooks.d/60-crio-erofs-guard.json to a directory of hooks_dir: CRI-O sees it at once"

// checkGuard looks for the guard in the directories that CRI-O reads hooks from. One hook file that is not in order keeps
// CRI-O from starting, whoever's it is, and while it runs from reading that directory.
func checkGuard(_ context.Context, n *Node) []Finding {
	var findings []Finding
	found := ""
	for _, dir := range n.crio.Runtime.HooksDir {
		real, err := n.source.Resolve(dir)
		if err != nil {
			findings = append(findings, bad(Unknown, dir, err.Error(), ""))
			continue
		}
		entries, err := os.ReadDir(real)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			findings = append(findings, bad(Unknown, dir, err.Error(), "run crio-erofs doctor as root"))
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if filepath.Ext(path) != ".json" {
				continue // as CRI-O does (containers/common, pkg/hooks/read.go)
			}
			isGuard, err := n.readHook(filepath.Join(real, e.Name()))
			switch {
			case err != nil:
				findings = append(findings, bad(Problem, path, fmt.Sprintf("%s: %v", path, err),
					"CRI-O does not start with it: install the hook's program, or remove the file"))
			case isGuard:
				found = path
			}
		}
	}
	if found != "" {
		return append(findings, good("", "%s has the guard", found))
	}
	return append(findings, bad(Advice, "", fmt.Sprintf("no guard in %s: while the NRI plugin is away, a pod that requests a mode under "+
		"another handler starts without it", strings.Join(n.crio.Runtime.HooksDir, ", ")), guardMend))
}

// readHook reads a hook's file; isGuard says whether it is our guard, in order.
func (n *Node) readHook(real string) (isGuard bool, err error) {
	b, err := os.ReadFile(real)
	if err != nil {
		return false, err
	}
	h, err := hook.Read(b)
	if err != nil {
		return false, err
	}
	program := h.Hook.Path
	if n.isTree() {
		// Validate wants the program on this machine.
		if _, err := n.stat(program); err != nil {
			return false, err
		}
		h.Hook.Path = "/"
	}
	if err := h.Validate(nil); err != nil {
		return false, err
	}
	if filepath.Base(program) != hookProgram {
		return false, nil
	}
	if err := n.runnable(program); err != nil {
		return false, err
	}
	return slices.Contains(h.Stages, guardStage) && slices.Contains(h.Hook.Args, guardStage), nil
}
