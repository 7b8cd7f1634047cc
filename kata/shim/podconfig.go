package shim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// Annotations by which a pod's author changes Kata's configuration. Kata's enable_annotations is only about
// io.katacontainers.config.hypervisor.*; these are always heeded. They count on the sandbox, where CRI-O writes the pod's
// labels over its annotations (cri-o 1.34, server/sandbox_run_linux.go), so that a label does the same.
const (
	// annotationExperimental lists features of runtime-rs, with commas between them
	// (src/libs/kata-types/src/annotations/mod.rs, update_config_by_annotation).
	annotationExperimental = "io.katacontainers.config.runtime.experimental"
	featureForceGuestPull  = "force_guest_pull"

	// annotationForceGuestPull is the Go runtime's (src/runtime/pkg/oci/utils.go, addRuntimeConfigOverrides).
	annotationForceGuestPull = "io.katacontainers.config.runtime.experimental_force_guest_pull"

	// annotationConfigPath names the configuration file for runtimes before 4.0.0
	// (kata-containers 3.32.0, src/runtime-rs/crates/runtimes/src/manager.rs, load_config; src/runtime/pkg/oci/utils.go).
	annotationConfigPath = "io.katacontainers.config_path"
)

// checkForcedPull refuses a container whose pod has Kata throw every rootfs away and pull images in the guest instead:
// that would be another mode than the one that was chosen, allowed and held against what the node trusts. In mode
// guest-pull it would be none, but for the containers that follow: Kata heeds a label on the sandbox, which they do
// not have.
func checkForcedPull(annotations map[string]string) error {
	key := annotationForceGuestPull
	if !isTrue(annotations[key]) {
		key = annotationExperimental
		if !slices.Contains(strings.Split(annotations[key], ","), featureForceGuestPull) {
			return nil
		}
	}
	return fmt.Errorf("annotation or label %s=%.64q of the pod makes Kata replace every rootfs by a pull in the guest: "+
		"remove it; mode %s, if the handler has or allows that, needs no such", key, annotations[key], kata.ModeGuestPull)
}

// isTrue is what strconv.ParseBool, by which Kata's Go runtime reads the annotation, takes for true, and what is like it.
func isTrue(value string) bool {
	return slices.Contains([]string{"1", "t", "true"}, strings.ToLower(strings.TrimSpace(value)))
}

// checkConfigPath refuses a pod that chooses Kata's configuration file: all that was decided by the other one would be
// wrong. From 4.0.0 on Kata does not look at the annotation. Without volumes nothing hangs on it but a shared directory.
func checkConfigPath(mode kata.Mode, annotations map[string]string, id identity) error {
	path := annotations[annotationConfigPath]
	if path == "" || !modes.HasVolumes(mode) || id.atLeast(4, 0) {
		return nil
	}
	return fmt.Errorf("the pod chooses Kata's configuration file itself (annotation or label %s=%.128q), and %s heeds that: "+
		"remove it", annotationConfigPath, path, id.program)
}
