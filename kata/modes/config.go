package modes

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata"
)

// Config is the content of the configuration file.
type Config struct {
	// DefaultHandler is what an empty handler name stands for: CRI-O's default_runtime, which runs pods without a
	// RuntimeClass.
	DefaultHandler string

	// Enforce is that of all handlers that do not say their own; empty: EnforceOff. It also holds for handlers that the
	// file does not name, so that a misspelt table does not switch it off.
	Enforce Enforce

	// Handlers has the handlers that the file names.
	Handlers map[string]Handler
}

// Handler is how the containers of one runtime handler get their images.
type Handler struct {
	// Name is the handler's in CRI-O's configuration and in RuntimeClasses. The shim knows its own by the name of its
	// program: containerd-shim-NAME-v2.
	Name string

	// Modes has the modes to try, in this order, for a pod that requests none.
	Modes []kata.Mode

	// Allow has the modes that a pod may request; empty: it gets what Modes says, or is refused.
	Allow []kata.Mode

	Dialect    Dialect
	Hypervisor Hypervisor

	// KataConfig is the path of Kata's own configuration file; empty: that of the request (runtime_config_path).
	KataConfig string

	// Shim is the path of Kata's shim; empty: found by name, see docs/shim.md.
	Shim string

	Enforce Enforce
}

// secureModes is what a handler of ours does that the file does not name: verified, or not at all.
var secureModes = []kata.Mode{kata.ModeImageVerity, kata.ModeLayerVerity}

// defaultHandler returns how a handler works for which there is no table.
func (c *Config) defaultHandler(name string) Handler {
	h := Handler{
		Name: name, Modes: slices.Clone(secureModes), Allow: slices.Clone(secureModes),
		Dialect: DialectAuto, Hypervisor: HypervisorAuto, Enforce: EnforceOff,
	}
	if c.Enforce != "" {
		h.Enforce = c.Enforce
	}
	return h
}

// Handler returns the configuration of the handler called name. ours is false if the file does not name the handler
// and its name does not say that its shim is ours (see IsOurs): such a handler, runc for example, gets no volumes. The
// shim, which is ours in any case, does not look at it.
func (c *Config) Handler(name string) (h Handler, ours bool) {
	if name == "" {
		name = c.DefaultHandler
	}
	if h, ok := c.Handlers[name]; ok {
		return h, true
	}
	return c.defaultHandler(name), IsOurs(name)
}

// Enforces says whether any handler's images are held against what the node trusts.
func (c *Config) Enforces() bool {
	if c.Enforce.enforces() {
		return true
	}
	for _, h := range c.Handlers {
		if h.Enforces() {
			return true
		}
	}
	return false
}

// Enforces says whether the handler's images are held against what the node trusts.
func (h *Handler) Enforces() bool { return h.Enforce.enforces() }

func (e Enforce) enforces() bool { return e == EnforceWarn || e == EnforceRequire }

// IsOurs says whether a handler's name has the word "erofs" in it, as the names of handlers with this project's shim
// do: kata-erofs, kata-qemu-erofs, kata-erofs-guest-pull.
func IsOurs(handler string) bool {
	return slices.Contains(strings.Split(handler, "-"), "erofs")
}

// handlerName is what Kubernetes (RuntimeClass.handler, a DNS label) and CRI-O (the shim's program name) both take.
var handlerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkHandlerName(name string) error {
	if !handlerName.MatchString(name) {
		return fmt.Errorf("%q is no name of a runtime handler: a RuntimeClass takes at most 63 of a-z, 0-9 and, "+
			"between them, -", name)
	}
	return nil
}

// check finds what no single value of the file shows.
func (h *Handler) check() error {
	if len(h.Modes) == 0 {
		return errors.New("modes is empty; name at least one, or remove the key for image-verity, layer-verity")
	}
	return errors.Join(h.checkModes("modes", h.Modes), h.checkModes("allow", h.Allow),
		checkPath("kata_config", h.KataConfig), checkPath("shim", h.Shim))
}

func (h *Handler) checkModes(key string, modes []kata.Mode) error {
	for i, m := range modes {
		if slices.Contains(modes[:i], m) {
			return fmt.Errorf("%s has %s twice", key, m)
		}
		if can := dialectModes[h.Dialect]; !slices.Contains(can, m) {
			return fmt.Errorf("%s has %s, which the dialect %s cannot do; it can do %s", key, m, h.Dialect, list(can))
		}
	}
	return nil
}

func checkPath(key, path string) error {
	if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path) {
		return fmt.Errorf("%s %q is not a clean absolute path", key, path)
	}
	return nil
}
