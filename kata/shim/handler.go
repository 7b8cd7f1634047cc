package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// handlerName returns the runtime handler that this program was started for: its name says so, and nothing else may.
// CRI-O's own annotation of it, io.kubernetes.cri-o.RuntimeHandler, is only on sandboxes, where a pod's annotations
// replace it (cri-o 1.34, server/sandbox_run_linux.go).
func handlerName(argv0 string) (string, error) {
	base := filepath.Base(argv0)
	name, ok := strings.CutPrefix(base, namePrefix)
	name, isV2 := strings.CutSuffix(name, nameSuffix)
	if !ok || !isV2 || name == "" {
		return "", fmt.Errorf("the program's name %q is not %sHANDLER%s, so the runtime handler does not follow from it: "+
			"rename it, or make a link", base, namePrefix, nameSuffix)
	}
	return name, nil
}

// loadHandler returns the handler's configuration as it is now.
func loadHandler(name string) (modes.Handler, error) {
	c, err := modes.Load(os.Getenv(modes.Environment))
	if err != nil {
		return modes.Handler{}, err
	}
	h, _ := c.Handler(name) // this is our shim, whatever the handler is called
	return h, nil
}
