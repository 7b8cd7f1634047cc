package modes

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/crio-erofs/crio-erofs/kata"
)

// file and fileHandler are the file's form. A pointer tells a key that is absent from one that is empty.
type file struct {
	DefaultHandler string                 `toml:"default_handler"`
	Enforce        Enforce                `toml:"enforce"`
	Handlers       map[string]fileHandler `toml:"handlers"`
}

type fileHandler struct {
	Modes      *[]modeName `toml:"modes"`
	Allow      *[]modeName `toml:"allow"`
	Dialect    Dialect     `toml:"dialect"`
	Hypervisor Hypervisor  `toml:"hypervisor"`
	KataConfig string      `toml:"kata_config"`
	Shim       string      `toml:"shim"`
	Enforce    Enforce     `toml:"enforce"`
}

// Parse decodes a configuration file called name. Errors name the file and, where there is one, the line.
func Parse(name string, b []byte) (*Config, error) {
	var f file
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, decodeError(name, err)
	}
	c := &Config{
		DefaultHandler: f.DefaultHandler, Enforce: f.Enforce, Handlers: make(map[string]Handler, len(f.Handlers)),
	}
	if f.DefaultHandler != "" {
		if err := checkHandlerName(f.DefaultHandler); err != nil {
			return nil, fmt.Errorf("%s: default_handler %w", name, err)
		}
	}
	for handler, fh := range f.Handlers {
		if err := checkHandlerName(handler); err != nil {
			return nil, fmt.Errorf("%s: [handlers] %w", name, err)
		}
		h := fh.fill(c.defaultHandler(handler))
		if err := h.check(); err != nil {
			return nil, fmt.Errorf("%s: [handlers.%s] %w", name, handler, err)
		}
		c.Handlers[handler] = h
	}
	return c, nil
}

// fill puts what the table says over the defaults in h.
func (f *fileHandler) fill(h Handler) Handler {
	if f.Dialect != "" {
		h.Dialect = f.Dialect
	}
	if f.Hypervisor != "" {
		h.Hypervisor = f.Hypervisor
	}
	if f.Enforce != "" {
		h.Enforce = f.Enforce
	}
	h.KataConfig, h.Shim = f.KataConfig, f.Shim
	if f.Modes != nil {
		h.Modes = modeList(*f.Modes)
	}
	h.Allow = h.Modes
	if f.Allow != nil {
		h.Allow = modeList(*f.Allow)
	}
	return h
}

func modeList(names []modeName) []kata.Mode {
	modes := make([]kata.Mode, len(names))
	for i, n := range names {
		modes[i] = kata.Mode(n)
	}
	return modes
}

// decodeError puts the place in front of what the decoder found wrong.
func decodeError(name string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		e := unknown.Errors[0]
		line, _ := e.Position()
		key := e.Key()
		return fmt.Errorf("%s:%d: unknown key %s; valid there are %s", name, line, strings.Join(key, "."),
			strings.Join(validKeys(key), ", "))
	}
	what := inWords(strings.TrimPrefix(err.Error(), "toml: "))
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		// The decoder does not always know the place, of a boolean for example, and then says 1:1, where no value is.
		if line, column := decode.Position(); line > 1 || column > 1 {
			return fmt.Errorf("%s:%d: %s", name, line, what)
		}
	}
	return fmt.Errorf("%s: %s", name, what)
}

// wrongType is how the decoder complains about a value, in terms of this package's types.
var wrongType = regexp.MustCompile(`^cannot decode TOML (\w+) into struct field modes\.(\w+)\.(\w+) of type (.*)$`)

// wanted says what values of these types are in the file.
var wanted = map[string]string{
	"map[string]modes.fileHandler": "tables, [handlers.NAME]", "*[]modes.modeName": "a list, such as [\"layer-verity\"]",
	"string": "a text in quotes",
}

func inWords(what string) string {
	m := wrongType.FindStringSubmatch(what)
	if m == nil || wanted[m[4]] == "" {
		return what
	}
	t := reflect.TypeFor[file]()
	if m[2] == "fileHandler" {
		t = reflect.TypeFor[fileHandler]()
	}
	f, ok := t.FieldByName(m[3])
	if !ok {
		return what
	}
	return fmt.Sprintf("%s is to be %s, and is of type %s", f.Tag.Get("toml"), wanted[m[4]], m[1])
}

// validKeys returns the keys of the table that an unknown key is in.
func validKeys(key toml.Key) []string {
	t := reflect.TypeFor[file]()
	if len(key) > 2 && key[0] == "handlers" {
		t = reflect.TypeFor[fileHandler]()
	}
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("toml")
	}
	return keys
}
