package kata

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxEncoded bounds what the decoders look at. A volume's description is under 1 KiB; a guest-pull volume carries
// all labels of an image, which Kubernetes limits to 256 KiB together.
const maxEncoded = 512 << 10

func encode(v any) (string, error) {
	b, err := marshal(v)
	if err != nil {
		return "", err
	}
	s := base64.StdEncoding.EncodeToString(b)
	if len(s) > maxEncoded {
		return "", fmt.Errorf("larger than %d bytes", maxEncoded)
	}
	return s, nil
}

// marshal writes compact JSON that keeps <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decode reads v, a pointer to a struct, from base64 of JSON, and returns the paths of the fields that were there.
func decode(s string, v any) (present map[string]bool, err error) {
	b, err := fromBase64(s)
	if err != nil {
		return nil, err
	}
	return unmarshal(b, v)
}

// fromBase64 takes one form only: readers differ about all others.
func fromBase64(s string) ([]byte, error) {
	if len(s) > maxEncoded {
		return nil, fmt.Errorf("%d bytes; at most %d are accepted", len(s), maxEncoded)
	}
	// The standard library's decoder skips line ends, Rust's does not.
	if i := strings.IndexAny(s, "\r\n"); i >= 0 {
		return nil, fmt.Errorf("base64: line end at byte %d", i)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("base64: %w; want the standard alphabet, with padding", err)
	}
	return b, nil
}

// unmarshal reads v, a pointer, from JSON, as strictly as checkKeys.
func unmarshal(b []byte, v any) (present map[string]bool, err error) {
	if len(b) > maxEncoded {
		return nil, fmt.Errorf("json: %d bytes; at most %d are accepted", len(b), maxEncoded)
	}
	if !utf8.Valid(b) {
		return nil, errors.New("json: not UTF-8")
	}
	if err := json.Unmarshal(b, v); err != nil {
		var t *json.UnmarshalTypeError
		if errors.As(err, &t) && t.Field != "" {
			return nil, fmt.Errorf("%s is a JSON %s, not a %s", t.Field, t.Value, t.Type)
		}
		return nil, fmt.Errorf("json: %w", err)
	}
	return checkKeys(b, v)
}

// checkUTF8 refuses what JSON cannot carry unchanged: it would arrive as another text.
func checkUTF8(field, s string) error {
	if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
		return fmt.Errorf("%s %q is not UTF-8", field, s)
	}
	return nil
}

// checkText is checkUTF8 for a text of one line.
func checkText(field, s string) error {
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return fmt.Errorf("%s %q has a control character at byte %d", field, s, i)
	}
	return checkUTF8(field, s)
}

// Limits of single fields, beyond which nothing is right: a path of the kernel's PATH_MAX, a file system's name.
const (
	maxPath   = 4095
	maxFSType = 64
)

// checkPath wants a clean absolute path of one line.
func checkPath(field, s string) error {
	if len(s) > maxPath {
		return fmt.Errorf("%s has %d bytes; a path has at most %d", field, len(s), maxPath)
	}
	if !path.IsAbs(s) || path.Clean(s) != s {
		return fmt.Errorf("%s %q is not a clean absolute path", field, s)
	}
	return checkText(field, s)
}
