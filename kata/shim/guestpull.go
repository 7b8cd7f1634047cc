package shim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata"
)

// checkGuestPull makes sure that a rootfs is the one mount with which CRI-O asks for a pull by the guest
// (runtime_pull_image, cri-o 1.34 internal/oci/runtime_vm.go).
func checkGuestPull(rootfs []kata.Mount) error {
	if len(rootfs) != 1 || rootfs[0].Type != kata.VirtualVolumeMount {
		types := make([]string, len(rootfs))
		for i := range rootfs {
			types[i] = rootfs[i].Type
		}
		return fmt.Errorf("%d mounts of type %q; want one of type %q", len(rootfs), types, kata.VirtualVolumeMount)
	}
	var found []string
	for _, o := range rootfs[0].Options {
		if v, ok := strings.CutPrefix(o, kata.VolumeOption); ok {
			found = append(found, v)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("%d options %s; want one", len(found), kata.VolumeOption)
	}
	b, err := base64.StdEncoding.DecodeString(found[0])
	if err != nil {
		return fmt.Errorf("option %s: %w", kata.VolumeOption, err)
	}
	// Only the type is looked at: the metadata are the container's annotations, and Kata's own matter.
	var v struct {
		Type kata.VolumeType `json:"volume_type"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("option %s: %w", kata.VolumeOption, err)
	}
	if v.Type != kata.VolumeImageGuestPull {
		return fmt.Errorf("virtual volume of type %q; want %q", v.Type, kata.VolumeImageGuestPull)
	}
	return nil
}
