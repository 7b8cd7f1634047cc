package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

const (
	// annotationContainerType is written by CRI-O on every container, after the pod's own annotations
	// (cri-o 1.34, internal/factory/container/container.go, server/sandbox_run_linux.go).
	annotationContainerType = "io.kubernetes.cri-o.ContainerType"

	// annotationImageRef is written by CRI-O in the same way, on workload containers: the image's id.
	annotationImageRef   = "io.kubernetes.cri-o.ImageRef"
	containerTypeSandbox = "sandbox"

	addressFile = "address"  // CRI-O reads it when it comes back after a restart
	shimPIDFile = "shim.pid" // a real shim that made a daemon wrote its pid there

	maxConfigSize = 16 << 20
)

// bundleConfig is the part of a bundle's config.json that decides about the rootfs.
type bundleConfig struct {
	Root struct {
		Path string `json:"path"`
	} `json:"root"`
	Annotations map[string]string `json:"annotations"`
	Linux       struct {
		Namespaces []struct {
			Type string `json:"type"`
		} `json:"namespaces"`
	} `json:"linux"`
}

// hasUserNamespace says whether the container's ids are to be mapped, as CRI-O writes it for pods with hostUsers: false.
func (c *bundleConfig) hasUserNamespace() bool {
	for _, n := range c.Linux.Namespaces {
		if n.Type == "user" {
			return true
		}
	}
	return false
}

func (c *bundleConfig) isSandbox() bool {
	return c.Annotations[annotationContainerType] == containerTypeSandbox
}

func readBundleConfig(bundle string) (*bundleConfig, error) {
	if !filepath.IsAbs(bundle) {
		return nil, fmt.Errorf("bundle %q is not an absolute path", bundle)
	}
	path := filepath.Join(bundle, "config.json")
	b, err := safefile.Read(path, maxConfigSize)
	if err != nil {
		return nil, fmt.Errorf("container's configuration: %w", err)
	}
	c := &bundleConfig{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("container's configuration %s: %w", path, err)
	}
	if c.Root.Path == "" {
		return nil, fmt.Errorf("container's configuration %s: no root.path", path)
	}
	if !filepath.IsAbs(c.Root.Path) { // relative to the bundle, says the OCI runtime specification
		c.Root.Path = filepath.Join(bundle, c.Root.Path)
	}
	return c, nil
}

// writeFileAtomic replaces a file: readers see the old or the new content.
func writeFileAtomic(path string, content []byte, perm os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Chmod(perm)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
