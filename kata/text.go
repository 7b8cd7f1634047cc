package kata

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Item is a description of a volume that was found in a text: either a VirtualVolume or an ExtraOption.
type Item struct {
	// Key is the annotation or mount option that holds it; empty if the text has nothing but the value.
	Key string

	Volume *VirtualVolume
	Option *ExtraOption
}

// maxText bounds what ParseText looks at: a mount or a configuration with many options.
const maxText = 32 << 20

// itemPattern finds annotations and mount options in whatever people paste: "KEY=VALUE", "KEY: VALUE", with quotes or
// without, between commas or on lines of their own.
var itemPattern = regexp.MustCompile(
	`(io\.katacontainers\.(?:volume|extraoption)(?:\.[0-9]+)?|\bextraoption)["']?[ \t]*[=:][ \t]*["']?([A-Za-z0-9+/]+=*)`)

// ParseText finds the volumes described in a text: the value of an annotation or mount option as it is (base64 of JSON),
// its JSON, a line with one or more of such annotations or mount options, or a JSON object of annotations, which may be
// the "annotations" of an OCI configuration. Decoding is as strict as DecodeVirtualVolume and DecodeExtraOption.
func ParseText(text string) ([]Item, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%d bytes; at most %d are accepted", len(text), maxText)
	}
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil, errors.New("nothing to decode")
	case strings.HasPrefix(text, "{"):
		return parseObject([]byte(text))
	}
	var items []Item
	for _, m := range itemPattern.FindAllStringSubmatch(text, -1) {
		item, err := parseItem(m[1], m[2])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m[1], err)
		}
		items = append(items, item)
	}
	if len(items) > 0 {
		return items, nil
	}
	item, err := parseItem("", text)
	if err != nil {
		return nil, err
	}
	return []Item{item}, nil
}

// parseItem decodes a value; a key says of which type it is, and without one its fields do.
func parseItem(key, value string) (item Item, err error) {
	item.Key = key
	isVolume := strings.HasPrefix(key, "io.katacontainers.volume")
	if key == "" {
		if isVolume, err = looksLikeVolume(value); err != nil {
			return item, err
		}
	}
	if isVolume {
		item.Volume, err = DecodeVirtualVolume(value)
		return item, err
	}
	item.Option, err = DecodeExtraOption(value)
	return item, err
}

// looksLikeVolume tells the two types apart by the fields that only one of them has.
func looksLikeVolume(value string) (bool, error) {
	b, err := fromBase64(value)
	if err != nil {
		return false, fmt.Errorf("neither JSON nor base64 nor a line with %sN, %sN, %s or %s: %w",
			AnnotationVolumePrefix, AnnotationExtraOptionPrefix, VolumeOption, ExtraOptionOption, err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return false, fmt.Errorf("base64 of something that is no JSON object: %w", err)
	}
	_, typed := fields["volume_type"]
	_, hasFS := fields["fs_type"] // fs_version in an ExtraOption
	return typed || hasFS, nil
}

// parseObject takes a JSON object for what its keys say.
func parseObject(b []byte) ([]Item, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	if annotations, ok := fields["annotations"]; ok {
		fields = nil
		if err := json.Unmarshal(annotations, &fields); err != nil {
			return nil, fmt.Errorf("json: annotations: %w", err)
		}
	}
	var items []Item
	for _, key := range slices.SortedFunc(maps.Keys(fields), byNumber) {
		if !strings.HasPrefix(key, AnnotationVolumePrefix) && !strings.HasPrefix(key, AnnotationExtraOptionPrefix) {
			continue
		}
		var value string
		if err := json.Unmarshal(fields[key], &value); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		item, err := parseItem(key, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		items = append(items, item)
	}
	if len(items) > 0 {
		return items, nil
	}
	item, err := parseItem("", base64.StdEncoding.EncodeToString(b))
	if err != nil {
		return nil, err
	}
	return []Item{item}, nil
}

// byNumber puts key.10 behind key.9.
func byNumber(a, b string) int {
	if strings.TrimRight(a, "0123456789") == strings.TrimRight(b, "0123456789") && len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
