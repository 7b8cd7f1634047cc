package shim

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// errNotAnnotated is how a hook that is not running shows: CRI-O goes on without a plugin that it lost.
var errNotAnnotated = errors.New("the NRI plugin crio-erofs-hook has not annotated this container: is it running?")

// chooseMode returns the container's mode: what the handler's configuration makes of the pod's request. The hook has
// decided by the same rules, and its annotations have to say the same, all of them: policies and people look at them.
// NRI cannot adjust a sandbox's own container; there only the decision counts.
func chooseMode(h *modes.Handler, config *bundleConfig, offer modes.Offer) (kata.Mode, error) {
	mode, err := h.Choose(config.Annotations[kata.AnnotationRequest], offer)
	if err != nil {
		return "", err
	}
	if config.isSandbox() {
		return mode, nil
	}
	want, err := modes.Annotations(mode, offer)
	if err != nil {
		return "", err
	}
	return mode, checkAnnotations(config.Annotations, want)
}

func checkAnnotations(got, want map[string]string) error {
	value, ok := got[kata.AnnotationMode]
	if !ok {
		return fmt.Errorf("annotation %s is missing: %w", kata.AnnotationMode, errNotAnnotated)
	}
	if value != want[kata.AnnotationMode] {
		return fmt.Errorf("annotation %s is %.64q, but by the handler's configuration this container has mode %s: if that was "+
			"changed just now, create the container again; else see whether hook and shim read the same file",
			kata.AnnotationMode, value, want[kata.AnnotationMode])
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if err := checkAnnotation(key, got, want[key]); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok && kata.IsReserved(key) {
			return fmt.Errorf("annotation %s does not belong to this container: only crio-erofs-hook may set it, and it "+
				"has not; remove it from the pod", key)
		}
	}
	return nil
}

func checkAnnotation(key string, got map[string]string, want string) error {
	value, ok := got[key]
	if !ok {
		return fmt.Errorf("annotation %s is missing: %w", key, errNotAnnotated)
	}
	if value == want {
		return nil
	}
	diff := fmt.Sprintf("it is %.256q, want %.256q", value, want)
	if strings.HasPrefix(key, kata.AnnotationVolumePrefix) {
		var err error
		if diff, err = differentVolume(value, want); err != nil {
			return fmt.Errorf("annotation %s: %w", key, err)
		}
	}
	return fmt.Errorf("annotation %s does not match the manifest: %s: remove the container and create it anew", key, diff)
}

// differentVolume says in which field two encoded virtual volumes differ.
func differentVolume(got, want string) (string, error) {
	g, err := kata.DecodeVirtualVolume(got)
	if err != nil {
		return "", err
	}
	w, err := kata.DecodeVirtualVolume(want)
	if err != nil {
		return "", err
	}
	if diff := differentField(*g, *w, "DMVerity"); diff != "" {
		return diff, nil
	}
	if (g.DMVerity == nil) != (w.DMVerity == nil) {
		return fmt.Sprintf("dm_verity present is %t, want %t", g.DMVerity != nil, w.DMVerity != nil), nil
	}
	if g.DMVerity != nil {
		if diff := differentField(*g.DMVerity, *w.DMVerity, ""); diff != "" {
			return "dm_verity." + diff, nil
		}
	}
	return "the same is written in another way", nil
}

// differentField compares two structs field by field and names the first difference as JSON calls it.
func differentField(got, want any, skip string) string {
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		field := g.Type().Field(i)
		if field.Name == skip || reflect.DeepEqual(g.Field(i).Interface(), w.Field(i).Interface()) {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		return fmt.Sprintf("%s is %v, want %v", name, g.Field(i), w.Field(i))
	}
	return ""
}
