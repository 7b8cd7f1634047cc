package modes_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

func TestParse(t *testing.T) {
	c, err := modes.Parse("f", []byte(`
default_handler = "runc"
[handlers.kata-erofs]
modes = ["image", "layer-verity"]
allow = ["guest-pull"]
dialect = "runtime-rs"
hypervisor = "qemu"
kata_config = "/opt/kata/c.toml"
shim = "/opt/kata/bin/containerd-shim-kata-v2"
enforce = "require"
[handlers.kata-remote]
modes = ["guest-pull"]
dialect = "guest-pull"
[handlers.strict]
allow = []
[handlers.plain]
`))
	if err != nil {
		t.Fatal(err)
	}
	secure := []kata.Mode{kata.ModeImageVerity, kata.ModeLayerVerity}
	for name, want := range map[string]modes.Handler{
		"kata-erofs": {
			Modes: []kata.Mode{kata.ModeImage, kata.ModeLayerVerity}, Allow: []kata.Mode{kata.ModeGuestPull},
			Dialect: modes.DialectRuntimeRS, Hypervisor: modes.HypervisorQEMU, KataConfig: "/opt/kata/c.toml",
			Shim: "/opt/kata/bin/containerd-shim-kata-v2", Enforce: modes.EnforceRequire,
		},
		"kata-remote": {
			Modes: []kata.Mode{kata.ModeGuestPull}, Allow: []kata.Mode{kata.ModeGuestPull},
			Dialect: modes.DialectGuestPull, Hypervisor: modes.HypervisorAuto, Enforce: modes.EnforceOff,
		},
		"strict": {
			Modes: secure, Allow: []kata.Mode{}, Dialect: modes.DialectAuto, Hypervisor: modes.HypervisorAuto,
			Enforce: modes.EnforceOff,
		},
		"plain": {
			Modes: secure, Allow: secure, Dialect: modes.DialectAuto, Hypervisor: modes.HypervisorAuto,
			Enforce: modes.EnforceOff,
		},
	} {
		want.Name = name
		if got, ours := c.Handler(name); !ours || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: ours %t, got %+v, want %+v", name, ours, got, want)
		}
	}
	if h, _ := c.Handler("kata-erofs-other"); h.Enforce != modes.EnforceOff {
		t.Errorf("got %+v", h)
	}
	if h, ours := c.Handler(""); ours || h.Name != "runc" {
		t.Errorf("no handler: ours %t, got %+v", ours, h)
	}
}

func TestParseEmpty(t *testing.T) {
	c, err := modes.Parse("f", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"": false, "runc": false, "crun": false, "kata": false, "kata-erofs": true, "kata-qemu-erofs": true,
		"kata-erofs-guest-pull": true, "erofsy": false, "erofs": true, "KATA-EROFS": false,
	} {
		if h, ours := c.Handler(name); ours != want || len(h.Modes) != 2 || !h.Modes[0].Verity() ||
			!h.Modes[1].Verity() || len(h.Allow) != 2 {
			t.Errorf("%q: ours %t, %+v", name, ours, h)
		}
	}
}

// badFiles has what is refused, and what the error has to say.
var badFiles = map[string]string{
	"\nhandler = 1": `f:2: unknown key handler; valid there are default_handler, enforce, handlers`,
	"[handlers.kata-erofs]\n\nmode = \"image\"": `f:3: unknown key handlers.kata-erofs.mode; valid there are modes, ` +
		`allow, dialect, hypervisor, kata_config, shim, enforce`,
	"[handlers.a.b]":                               `f:1: unknown key handlers.a.b; valid there are modes, `,
	"[handlers.a]\nmodes = [\"images\"]":           `f:2: mode "images" is unknown; valid are layer, layer-verity, `,
	"[handlers.a]\nmodes = [\n  \"image\",\n  7]":  `f:4: mode "7" is unknown`,
	"[handlers.a]\nmodes = \"image\"":              `f:2: modes is to be a list, such as ["layer-verity"], and is of type string`,
	"[handlers.a]\nmodes = []":                     `f: [handlers.a] modes is empty; name at least one`,
	"[handlers.a]\nmodes = [\"image\", \"image\"]": `f: [handlers.a] modes has image twice`,
	"[handlers.a]\nallow = [\"image\", \"image\"]": `f: [handlers.a] allow has image twice`,
	"[handlers.a]\ndialect = \"go\"": `f: [handlers.a] modes has image-verity, which the dialect go cannot do; ` +
		`it can do layer, image, guest-pull, shared-fs`,
	"[handlers.a]\nmodes = [\"shared-fs\"]\nallow = [\"layer-verity\"]\ndialect = \"block-device\"": `allow has ` +
		`layer-verity, which the dialect block-device cannot do; it can do guest-pull, shared-fs`,
	"[handlers.a]\ndialect = \"rust\"":                `f:2: dialect "rust" is unknown; valid are auto, runtime-rs, `,
	"[handlers.a]\nhypervisor = \"xen\"":              `f:2: hypervisor "xen" is unknown; valid are auto, qemu, `,
	"[handlers.a]\nenforce = \"on\"":                  `f:2: enforce "on" is unknown; valid are off, warn, require`,
	"[handlers.a]\nenforce = \"\"":                    `f:2: enforce "" is unknown`,
	"[handlers.a]\nenforce = true":                    `f: enforce "true" is unknown`,
	"[handlers.a]\nkata_config = \"c.toml\"":          `f: [handlers.a] kata_config "c.toml" is not a clean absolute`,
	"[handlers.a]\nshim = \"/a/../b\"":                `f: [handlers.a] shim "/a/../b" is not a clean absolute path`,
	"[handlers.\"a b\"]":                              `f: [handlers] "a b" is no name of a runtime handler`,
	"[handlers.\"\"]":                                 `f: [handlers] "" is no name of a runtime handler`,
	"default_handler = \"Kata\"":                      `f: default_handler "Kata" is no name of a runtime handler`,
	"default_handler = 1":                             `f:1: default_handler is to be a text in quotes, and is of type integer`,
	"[handlers.a]\n[handlers.a]":                      `f: table a already exists`,
	"[handlers.a]\nshim = \"/a\"\nshim = \"/a\"":      `f: key shim is already defined`,
	"[handlers.a\n":                                   `f:1: `,
	"handlers = 1":                                    `f:1: handlers is to be tables, [handlers.NAME], and is of type integer`,
	"[handlers.a]\nkata_config = \"\xff\"":            `f:2: `,
	"[handlers.a]\nallow = [\"image-verity\", \"x\"]": `f:2: mode "x" is unknown`,
}

func TestParseErrors(t *testing.T) {
	for text, want := range badFiles {
		c, err := modes.Parse("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v; want an error with %q", text, c, err, want)
		}
	}
}

// FuzzParse looks for files that pass and then leave a handler that cannot decide.
func FuzzParse(f *testing.F) {
	for text := range badFiles {
		f.Add([]byte(text))
	}
	f.Add([]byte("[handlers.kata-erofs]\nmodes = [\"image\", \"layer-verity\"]\nallow = []\nenforce = \"warn\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := modes.Parse("f", b)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		for name := range c.Handlers {
			h, ours := c.Handler(name)
			if !ours || h.Name != name || len(h.Modes) == 0 || h.Dialect == "" || h.Hypervisor == "" || h.Enforce == "" {
				t.Fatalf("%q: %+v", name, h)
			}
			for _, m := range append(h.Modes, h.Allow...) {
				if _, err := kata.ParseMode(string(m)); err != nil {
					t.Error(err)
				}
			}
			checkChoice(t, &h)
		}
	})
}

// A table that was meant for another handler, or a misspelt one, must not switch off what the file demands of all.
func TestEnforceOfAll(t *testing.T) {
	c, err := modes.Parse("f", []byte("enforce = \"require\"\n[handlers.a-erofs]\n[handlers.b]\nenforce = \"warn\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]modes.Enforce{
		"a-erofs": modes.EnforceRequire, "b": modes.EnforceWarn, "c-erofs": modes.EnforceRequire,
	} {
		if h, ours := c.Handler(name); !ours || h.Enforce != want {
			t.Errorf("%s: ours %t, enforce %q, want %q", name, ours, h.Enforce, want)
		}
	}
	if _, err := modes.Parse("f", []byte("enforce = \"requir\"\n")); err == nil {
		t.Error("a value that does not exist is taken")
	}
}
