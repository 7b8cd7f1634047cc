package shim

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

// errNotAnnotated is how a hook that is not running shows: CRI-O goes on without a plugin that it lost.
var errNotAnnotated = errors.New("the NRI plugin crio-erofs-hook has not annotated this container: is it running?")

// checkAnnotations makes sure that the hook saw this container and saw the same volumes. Policies and people look at
// the annotations; they must tell the truth about what is attached.
func checkAnnotations(annotations map[string]string, volumes []volume.ManifestVolume) error {
	if err := checkMode(annotations, len(volumes)); err != nil {
		return err
	}
	if err := checkVolumeAnnotations(annotations, volumes); err != nil {
		return err
	}
	hashes := make([]string, len(volumes))
	for i := range volumes {
		hashes[i] = volumes[i].Verity.RootHash
	}
	want := strings.Join(hashes, ",")
	if got := annotations[kata.AnnotationRootHash]; got != want {
		return fmt.Errorf("annotation %s is %q, but the manifest's root hashes are %q: remove the container and create "+
			"it anew", kata.AnnotationRootHash, got, want)
	}
	return nil
}

func checkMode(annotations map[string]string, volumes int) error {
	value, ok := annotations[kata.AnnotationMode]
	if !ok {
		return fmt.Errorf("annotation %s is missing: %w", kata.AnnotationMode, errNotAnnotated)
	}
	mode, err := kata.ParseMode(value)
	if err != nil {
		return fmt.Errorf("annotation %s: %w", kata.AnnotationMode, err)
	}
	if !mode.Verity() || mode == kata.ModeImageVerity && volumes != 1 {
		return fmt.Errorf("annotation %s is %q, but the manifest has %d volumes, all with dm-verity",
			kata.AnnotationMode, value, volumes)
	}
	return nil
}

func checkVolumeAnnotations(annotations map[string]string, volumes []volume.ManifestVolume) error {
	for i := range volumes {
		key := kata.VolumeKey(i)
		value, ok := annotations[key]
		if !ok {
			return fmt.Errorf("annotation %s is missing: %w", key, errNotAnnotated)
		}
		got, err := kata.DecodeVirtualVolume(value)
		if err != nil {
			return fmt.Errorf("annotation %s: %w", key, err)
		}
		want := kata.NewLayerVolume(&volumes[i])
		if annotations[kata.AnnotationMode] == string(kata.ModeImageVerity) {
			want.VolumeType = kata.VolumeImageRawBlock
		}
		if diff := difference(got, want); diff != "" {
			return fmt.Errorf("annotation %s does not match the manifest: %s: remove the container and create it anew",
				key, diff)
		}
	}
	for key := range annotations {
		if strings.HasPrefix(key, kata.AnnotationVolumePrefix) && !isVolumeKey(key, len(volumes)) {
			return fmt.Errorf("annotation %s names a volume that the manifest, with %d, does not have",
				key, len(volumes))
		}
	}
	return nil
}

func isVolumeKey(key string, n int) bool {
	for i := range n {
		if key == kata.VolumeKey(i) {
			return true
		}
	}
	return false
}

// difference names the first field in which two virtual volumes differ, "" if they are equal.
func difference(got, want *kata.VirtualVolume) string {
	if diff := differentField(*got, *want, "DMVerity"); diff != "" {
		return diff
	}
	switch {
	case (got.DMVerity == nil) != (want.DMVerity == nil):
		return fmt.Sprintf("dm_verity present is %t, want %t", got.DMVerity != nil, want.DMVerity != nil)
	case got.DMVerity == nil:
		return ""
	}
	if diff := differentField(*got.DMVerity, *want.DMVerity, ""); diff != "" {
		return "dm_verity." + diff
	}
	return ""
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
