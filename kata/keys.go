package kata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// checkKeys walks JSON that has been decoded into v and refuses what encoding/json lets pass but Kata's readers take
// differently: unknown keys, keys that only match when case is ignored, repeated keys (the last wins in Go, an error
// in Rust), and null (a zero value in Go, an error in Rust). It returns the paths of all keys, "dm_verity.salt".
func checkKeys(b []byte, v any) (map[string]bool, error) {
	w := keyWalker{d: json.NewDecoder(bytes.NewReader(b)), seen: map[string]bool{}}
	if err := w.value(reflect.TypeOf(v), ""); err != nil {
		return nil, err
	}
	return w.seen, nil
}

type keyWalker struct {
	d    *json.Decoder
	seen map[string]bool
}

// value consumes one JSON value that belongs to a Go value of type t. The JSON is known to fit the type.
func (w *keyWalker) value(t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tok, err := w.d.Token()
	if err != nil {
		return fmt.Errorf("json: %w", err)
	}
	switch tok {
	case nil:
		if path == "" {
			path = "the whole"
		}
		return fmt.Errorf("%s is null", path)
	case json.Delim('['):
		for i := 0; w.d.More(); i++ {
			if err := w.value(t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		if err := w.object(t, path); err != nil {
			return err
		}
	default:
		return nil
	}
	_, err = w.d.Token() // the closing delimiter
	return err
}

// object consumes the keys and values of an object, up to its closing brace.
func (w *keyWalker) object(t reflect.Type, path string) error {
	for w.d.More() {
		tok, err := w.d.Token()
		if err != nil {
			return fmt.Errorf("json: %w", err)
		}
		key, ok := tok.(string)
		if !ok {
			return fmt.Errorf("json: key %v of %s is not a string", tok, path)
		}
		name := strings.TrimPrefix(path+"."+key, ".")
		if w.seen[name] {
			return fmt.Errorf("%s appears twice", name)
		}
		w.seen[name] = true
		member := memberType(t, key)
		if member == nil {
			return fmt.Errorf("%s is not a known field", name)
		}
		if err := w.value(member, name); err != nil {
			return err
		}
	}
	return nil
}

// memberType returns the type of the field that key names in t, a struct or map; nil if there is none.
func memberType(t reflect.Type, key string) reflect.Type {
	if t.Kind() == reflect.Map {
		return t.Elem()
	}
	for f := range reflect.VisibleFields(t) {
		sf := t.Field(f)
		if name, _, _ := strings.Cut(sf.Tag.Get("json"), ","); name == key {
			return sf.Type
		}
	}
	return nil
}
