package shim

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// EnvRoot names the directory with the state of running sandboxes, instead of DefaultRoot.
const EnvRoot = "KATA_STANDIN_ROOT"

// DefaultRoot is the directory with the state of running sandboxes.
const DefaultRoot = "/run/kata-standin"

// Root is the directory with the state of running sandboxes.
func Root() string {
	if dir := os.Getenv(EnvRoot); dir != "" {
		return dir
	}
	return DefaultRoot
}

// stateDir is a sandbox's. It lives as long as the daemon.
func stateDir(sandboxID string) string { return filepath.Join(Root(), sandboxID) }

// maxSocketPath is what fits into a Unix address (unix(7)) without its final zero byte.
const maxSocketPath = 107

// socketPath is where a sandbox's daemon listens. It is not in the state directory, whose name may be too long.
func socketPath(sandboxID string) (string, error) {
	path := filepath.Join(Root(), "s", fmt.Sprintf("%x", sha256.Sum256([]byte("default/"+sandboxID)))[:32])
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("socket path %s is longer than %d bytes: name a shorter directory in %s", path,
			maxSocketPath, EnvRoot)
	}
	return path, nil
}

// address is what the shim prints and writes to the bundle.
func address(socket string) string { return "unix://" + socket }

// readSpec reads the OCI configuration of a bundle.
func readSpec(bundle string) (*specs.Spec, error) {
	path := filepath.Join(bundle, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(b, spec); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if spec.Process == nil || spec.Root == nil {
		return nil, fmt.Errorf("%s: no process or no root", path)
	}
	return spec, nil
}

// Annotations that say what a container is (kata-containers src/libs/kata-types/src/k8s.rs, container_type_with_id:
// CRI-O's are looked at first).
var (
	typeAnnotations = []string{"io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri.container-type"}
	idAnnotations   = []string{"io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.sandbox-id"}
)

// sandboxOf returns the id of the sandbox that a container belongs to: its own if it is one, or stands alone.
func sandboxOf(spec *specs.Spec, id string) (string, error) {
	if first(spec.Annotations, typeAnnotations) != "container" {
		return id, nil
	}
	sandboxID := first(spec.Annotations, idAnnotations)
	if sandboxID == "" {
		return "", fmt.Errorf("container %s has no annotation with its sandbox's id", id)
	}
	return sandboxID, nil
}

func first(annotations map[string]string, keys []string) string {
	for _, key := range keys {
		if v := annotations[key]; v != "" {
			return v
		}
	}
	return ""
}
